"""`python -m sandbox up` as a program of others would use it."""

from __future__ import annotations

import contextlib
import json
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
UP = [sys.executable, "-m", "sandbox", "up"]
MEMBERS = ["ca", "authority", "tenant", "apps", "scope", "graph", "smtp", "vault", "storage", "functions", "control", "mailboxes"]


@contextmanager
def up(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([*UP, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line: dict[str, Any] = json.loads(process.stdout.readline())
    return line


def children(pid: int) -> list[Path]:
    """As Linux has them under /proc: what follows the name in parentheses is the state and the parent."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it may end while we look
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(stat.parent)
    return found


def until_handled(pid: int, number: int) -> None:
    """From then on the signal is the program's to answer, not the system's (proc(5), SigCgt)."""
    for _ in range(1000):
        status = Path(f"/proc/{pid}/status").read_text() if sys.platform == "linux" else ""
        caught = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt")), 0)
        if caught >> (number - 1) & 1:
            return
        time.sleep(0.01)
    raise AssertionError("it never listened to the signal")


@pytest.mark.slow
def test_two_side_by_side() -> None:
    """Each prints one line of the promised shape, is another tenant on other ports, and ends on SIGTERM with all its children."""
    with up("--json") as one, up("--json", "--lease", "5") as other:
        first, second = told(one), told(other)
        assert list(first) == list(second) == MEMBERS
        assert first["tenant"] != second["tenant"]
        assert [app["name"] for app in first["apps"]] == ["graph", "caller"]
        assert first["graph"].endswith("/v1.0")
        assert first["functions"].endswith("/api")
        for here in (first, second):
            with httpx.Client(verify=ssl.create_default_context(cafile=here["ca"]), trust_env=False) as http:
                health = http.get(f"{here['functions']}/health").json()
                others = 3  # accounts that are no mailboxes of Graph: two send by SMTP, one is at Google
                assert (health["status"], health["accounts"]) == ("ok", len(here["mailboxes"]) + others)
                metadata = http.get(f"{here['authority']}/{here['tenant']}/v2.0/.well-known/openid-configuration").json()
                assert metadata["token_endpoint"].startswith(here["authority"])
        family = [*children(one.pid), *children(other.pid)]
        assert len(family) == 4 or sys.platform != "linux"
        for process in (one, other):
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        assert not any(child.exists() for child in family)
        assert not Path(first["ca"]).exists()


@pytest.mark.slow
def test_for_people() -> None:
    """Without --json it shows addresses and curl lines; Ctrl-C ends it, and that is well."""
    with up() as process:
        assert process.stdout is not None
        shown = ""
        while "/health" not in shown:
            line = process.stdout.readline()
            assert line, shown
            shown += line
        assert "curl" in shown
        assert "billing@contoso.example" in shown
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


@pytest.mark.slow
def test_told_to_end_while_it_starts() -> None:
    """SIGTERM before it is ready ends it as well, with nothing printed."""
    with up("--json") as process:
        until_handled(process.pid, signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
