"""The vault over HTTP."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from sandbox.directory import Directory
from sandbox.faults import FaultMiddleware, Faults
from sandbox.serve import Served
from sandbox.vault import certificates, keys, secrets
from sandbox.vault.access import Access, Challenge
from sandbox.vault.contents import Vault
from sandbox.vault.errors import VaultError


def create(directory: Directory, faults: Faults, vault: Vault | None = None) -> ASGIApp:
    """Serve it over TLS, as the SDK takes nothing else, and hand out `url(served)`."""
    vault = vault or Vault(directory.now)
    access = Access(directory)
    operations = [*secrets.operations(vault), *certificates.operations(vault), *keys.operations(vault)]
    routes = [Route(operation.path, access.guard(operation), methods=[operation.method]) for operation in operations]
    return FaultMiddleware(Starlette(routes=routes, exception_handlers={VaultError: _refuse}), faults, "vault")


def url(served: Served) -> str:
    """By address, never "localhost": see the challenge."""
    return f"https://127.0.0.1:{served.port}"


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, VaultError)
    headers = {"WWW-Authenticate": error.header} if isinstance(error, Challenge) else None
    return JSONResponse(error.body, error.status, headers=headers)
