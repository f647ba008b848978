"""A provider whose own work costs nothing: nginx with fixed answers, at once and after 100 ms, and an SMTP server that takes everything.

nginx and its echo module come from Debian: `apt-get install nginx libnginx-mod-http-echo`.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

LATENCY = 0.1
ECHO = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")
TAKEN = [{"id": str(number), "status": 202, "headers": {}} for number in range(20)]

CONFIGURATION = """
load_module {echo};
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  client_max_body_size 10m;
  client_body_buffer_size 4m;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{at_once};
    default_type application/json;
    location / {{ return 202; }}
    location ~ batch$ {{ return 200 '{batch}'; }}
  }}
  server {{
    listen 127.0.0.1:{late};
    default_type application/json;
    location / {{ echo_sleep {latency}; echo_status 202; echo_exec @nothing; }}
    location ~ batch$ {{ echo_sleep {latency}; echo_exec @batch; }}
    location @nothing {{ return 202; }}
    location @batch {{ return 200 '{batch}'; }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Base URLs of Graph, without and with latency, and the SMTP port."""

    at_once: str
    late: str
    smtp: int


@asynccontextmanager
async def fixed() -> AsyncIterator[Fixed]:
    nginx = _nginx()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder, at_once, late = Path(name), _free_port(), _free_port()
        values = {"folder": folder, "at_once": at_once, "late": late, "latency": LATENCY, "echo": ECHO}
        (folder / "nginx.conf").write_text(CONFIGURATION.format(batch=json.dumps({"responses": TAKEN}), **values))
        process = await asyncio.create_subprocess_exec(nginx, "-c", str(folder / "nginx.conf"), "-p", name)
        sink = await asyncio.start_server(_take_all, "127.0.0.1", 0)
        try:
            for port in (at_once, late):
                await _listening(port)
            yield Fixed(f"http://127.0.0.1:{at_once}/v1.0", f"http://127.0.0.1:{late}/v1.0", sink.sockets[0].getsockname()[1])
        finally:
            sink.close()
            process.terminate()
            await process.wait()


def _nginx() -> str:
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if found is None or not ECHO.exists():
        raise SystemExit("this needs nginx with its echo module: apt-get install nginx libnginx-mod-http-echo")
    return found


async def _take_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """RFC 5321, as far as a client that trusts it needs: 250 to everything, 354 to DATA."""
    writer.write(b"220 bench\r\n")
    while line := await reader.readline():
        word = line[:4].upper().strip()
        if word == b"DATA":
            writer.write(b"354 go on\r\n")
            await reader.readuntil(b"\r\n.\r\n")
        writer.write(b"221 bye\r\n" if word == b"QUIT" else b"250 bench\r\n")
    writer.close()


async def _listening(port: int) -> None:
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
    raise SystemExit("nginx did not start")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
