"""Postfix and Dovecot as Debian has them, on free ports of loopback in a temporary folder: what they have of their own is left alone.

They are started as root and give their rights away themselves, as ever.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 20.0
NEEDED = ("dovecot", "postfix")


def missing() -> str:
    """Why they can't run here, "" if they can."""
    lacking = [name for name in NEEDED if shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None]
    if lacking:
        return f"not installed: {', '.join(lacking)}; apt-get install postfix dovecot-imapd dovecot-lmtpd dovecot-submissiond"
    return "" if os.geteuid() == 0 else "Postfix and Dovecot start as root only"


@dataclass(frozen=True, slots=True)
class Ports:
    """`submission` and `relay` are Postfix's, `proxy` is Dovecot's submission, which hands on to Postfix's `inside`."""

    submission: int
    relay: int
    inside: int
    proxy: int
    imap: int
    lmtp: int

    @classmethod
    def free(cls) -> Ports:
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(6)]
        numbers = [one.getsockname()[1] for one in sockets]
        for one in sockets:
            one.close()
        return cls(*numbers)


@contextmanager
def running(command: list[str], log: Path, *ports: int, stop: list[str] | None = None) -> Iterator[None]:
    """Until it listens on all of these ports; ended by its pid, or by the command for that where it leaves its work to others."""
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
    try:
        for port in ports:
            _listens(port, process, log)
        yield
    finally:
        if stop is None:
            process.terminate()
        else:
            subprocess.run(stop, check=True, capture_output=True, timeout=PATIENCE)
        process.wait(PATIENCE)


def _listens(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"nobody listens on {port}:\n{log.read_text(errors='replace')[-3000:]}")
