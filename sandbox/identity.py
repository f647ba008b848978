"""The endpoint from which App Service and Functions hand out a managed identity's tokens (IDENTITY_ENDPOINT, api-version 2019-08-01).

learn.microsoft.com/azure/app-service/overview-managed-identity, "REST endpoint reference". The site here has user-assigned identities
only, so a request that names none fails as it does there.
"""

from __future__ import annotations

import hmac
import secrets
import uuid
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from sandbox.directory import App, Directory
from sandbox.faults import FaultMiddleware, Faults

PATH = "/msi/token"
API_VERSION = "2019-08-01"
DAY = 86_400


def create(directory: Directory, faults: Faults, header: str, lifetime: int = DAY) -> ASGIApp:
    """IDENTITY_ENDPOINT is the URL this is served at plus PATH, IDENTITY_HEADER is `header` (`new_header()` makes one).

    The platform's tokens live a day, whatever those of applications do.
    """
    site = Site(directory, header, lifetime)
    app = Starlette(routes=[Route(PATH, site.token)], exception_handlers={Refused: site.refuse})
    return FaultMiddleware(app, faults, "identity")


def new_header() -> str:
    return secrets.token_hex(16).upper()


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Site:
    directory: Directory
    header: str
    lifetime: int

    async def token(self, request: Request) -> Response:
        self._check(request)
        identity = self._identity(request)
        asked = self._parameter(request, "resource")
        resource = self.directory.resource(asked)
        if resource is None:
            raise Refused(500, "An unexpected error occured while fetching the AAD Token.")
        expires_on = int(self.directory.now()) + self.lifetime
        answer = {
            "access_token": self.directory.issue(identity.client_id, resource.uri, lifetime=self.lifetime),
            "expires_on": str(expires_on),
            "resource": asked,
            "token_type": "Bearer",
            "client_id": identity.client_id,
        }
        return JSONResponse(answer)

    async def refuse(self, request: Request, refused: Exception) -> Response:
        assert isinstance(refused, Refused)
        body = {"statusCode": refused.status, "message": refused.message, "correlationId": str(uuid.uuid4())}
        return JSONResponse(body, refused.status)

    def _check(self, request: Request) -> None:
        """The header keeps server-side request forgery out: a URL alone gets no token."""
        if not hmac.compare_digest(request.headers.get("x-identity-header", "").encode(), self.header.encode()):
            raise Refused(401, "The X-IDENTITY-HEADER header is missing or wrong.")
        version = self._parameter(request, "api-version")
        if version != API_VERSION:
            raise Refused(400, f"The api-version '{version}' is not supported.")

    def _identity(self, request: Request) -> App:
        """By client id or principal (object) id."""
        asked = {request.query_params.get(name) for name in ("client_id", "principal_id", "object_id")} - {None}
        for app in self.directory.apps.values():
            if app.identity and asked & {app.client_id, app.object_id}:
                return app
        if asked:
            raise Refused(400, "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId.")
        raise Refused(400, "Unable to load the proper Managed Identity.")

    def _parameter(self, request: Request, name: str) -> str:
        value = request.query_params.get(name)
        if not value:
            raise Refused(400, f"The {name} query parameter is missing.")
        return value
