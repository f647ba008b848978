"""The endpoints of one tenant: tokens (v2), metadata and signing keys (v2 and v1)."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from sandbox.directory import Directory
from sandbox.entra import authorize, device, grants, pages, password, refresh
from sandbox.entra.aadsts import Refusal
from sandbox.faults import FaultMiddleware, Faults

SEVERAL_TENANTS = ("common", "organizations")
GRANTS = {
    **grants.GRANTS,
    "password": password.password,
    "refresh_token": refresh.refresh_token,
    "authorization_code": authorize.authorization_code,
    "urn:ietf:params:oauth:grant-type:device_code": device.device_code,
}


def create(directory: Directory, faults: Faults) -> ASGIApp:
    """Set `directory.authority` to the URL this is served at."""
    entra = Entra(directory)
    routes = [
        Route("/{tenant}/oauth2/v2.0/token", entra.token, methods=["POST"]),
        Route("/{tenant}/oauth2/v2.0/devicecode", entra.device, methods=["POST"]),
        Route("/{tenant}/oauth2/v2.0/authorize", entra.authorize, methods=["GET", "POST"]),
        Route(device.PAGE, entra.device_page, methods=["GET", "POST"]),
        Route("/common/userrealm/{name}", entra.realm),
        Route("/{tenant}/v2.0/.well-known/openid-configuration", entra.metadata),
        Route("/{tenant}/.well-known/openid-configuration", entra.metadata_v1),
        Route("/{tenant}/discovery/v2.0/keys", entra.keys),
        Route("/{tenant}/discovery/keys", entra.keys),
    ]
    return FaultMiddleware(Starlette(routes=routes, exception_handlers={Refusal: entra.refuse}), faults, "entra")


class Entra:
    def __init__(self, directory: Directory) -> None:
        self.directory = directory

    async def token(self, request: Request) -> Response:
        return JSONResponse(grants.token(await self._asked(request), GRANTS), headers=_headers(request))

    async def device(self, request: Request) -> Response:
        return JSONResponse(device.begin(await self._asked(request)), headers=_headers(request))

    async def device_page(self, request: Request) -> Response:
        if request.method == "GET":
            return device.page(request.query_params)
        return device.answered(self.directory, await _form(request))

    async def authorize(self, request: Request) -> Response:
        self._tenant(request)
        try:
            if request.method == "GET":
                return authorize.authorize(self.directory, request.url.path, request.query_params)
            return authorize.answered(self.directory, request.url.path, await _form(request))
        except Refusal as refusal:
            return pages.told("Sign in", refusal.text, refusal.status)

    async def realm(self, request: Request) -> Response:
        return await password.realm(self.directory, request)

    async def metadata(self, request: Request) -> Response:
        tenant = self._tenant(request)
        base = self.directory.login_url(tenant)
        return JSONResponse(_metadata(self._issuer(tenant), f"{base}/oauth2/v2.0", f"{base}/discovery/v2.0/keys"))

    async def metadata_v1(self, request: Request) -> Response:
        tenant = self._tenant(request)
        issuer = f"https://sts.windows.net/{_or_placeholder(tenant)}/"
        keys = f"{self.directory.login_url('common')}/discovery/keys"
        return JSONResponse(_metadata(issuer, f"{self.directory.login_url(tenant)}/oauth2", keys))

    async def keys(self, request: Request) -> Response:
        return JSONResponse({"keys": self.directory.keys.public(self._issuer(self._tenant(request)))})

    async def refuse(self, request: Request, refusal: Exception) -> Response:
        assert isinstance(refusal, Refusal)
        headers = _headers(request)
        correlation = headers.get("client-request-id") or str(uuid.uuid4())
        body = refusal.body(self.directory.authority, headers["x-ms-request-id"], correlation, self.directory.now())
        if not request.url.path.endswith("/token") and body["error_codes"] == [90002]:
            body["error"] = "invalid_tenant"  # so discovery calls it, and the token endpoint invalid_request
        return JSONResponse(body, refusal.status, headers=headers)

    async def _asked(self, request: Request) -> grants.TokenRequest:
        tenant = self._tenant(request)
        return grants.TokenRequest(self.directory, tenant, await _form(request), request.headers.get("authorization", ""))

    def _tenant(self, request: Request) -> str:
        """The tenant's GUID, whichever of its names the path has; or a name that stands for many tenants."""
        name = str(request.path_params["tenant"]).lower()
        if name in SEVERAL_TENANTS:
            return name
        if name not in (self.directory.tenant, self.directory.domain):
            raise Refusal(90002, tenant=name)
        return self.directory.tenant

    def _issuer(self, tenant: str) -> str:
        return f"{self.directory.login_url(_or_placeholder(tenant))}/v2.0"


async def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl((await request.body()).decode(errors="replace")))


def _or_placeholder(tenant: str) -> str:
    return "{tenantid}" if tenant in SEVERAL_TENANTS else tenant


def _metadata(issuer: str, oauth: str, keys: str) -> dict[str, Any]:
    """OpenID Connect Discovery 1.0, section 3; only what is served here."""
    return {
        "issuer": issuer,
        "token_endpoint": f"{oauth}/token",
        "authorization_endpoint": f"{oauth}/authorize",
        "device_authorization_endpoint": f"{oauth}/devicecode",
        "jwks_uri": keys,
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
        "response_types_supported": ["code"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
    }


def _headers(request: Request) -> dict[str, str]:
    headers = {"Cache-Control": "no-store, no-cache", "Pragma": "no-cache", "x-ms-request-id": str(uuid.uuid4())}
    if "client-request-id" in request.headers:
        headers["client-request-id"] = request.headers["client-request-id"]
    return headers
