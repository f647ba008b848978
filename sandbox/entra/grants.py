"""The grants of the token endpoint, one function each, and how an application proves who it is."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from sandbox.directory import App, Directory, Resource
from sandbox.entra import assertion, federated
from sandbox.entra.aadsts import Refusal

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
DEFAULT = "/.default"


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """`tenant` is the GUID, or a name for many tenants; `basic` is the Authorization header."""

    directory: Directory
    tenant: str
    form: Mapping[str, str]
    basic: str = ""

    def need(self, parameter: str) -> str:
        value = self.form.get(parameter)
        if not value:
            raise Refusal(900144, parameter=parameter)
        return value


def client_credentials(request: TokenRequest) -> dict[str, Any]:
    """RFC 6749, 4.4."""
    if request.tenant != request.directory.tenant:
        raise Refusal(50059)
    app, certified = authenticate(request)
    resource = _resource(request)
    lifetime = request.directory.lifetime
    token = request.directory.issue(app.client_id, resource.uri, certificate=certified)
    return {"token_type": "Bearer", "expires_in": lifetime, "ext_expires_in": lifetime, "access_token": token}


GRANTS: dict[str, Callable[[TokenRequest], dict[str, Any]]] = {"client_credentials": client_credentials}


def token(request: TokenRequest, grants: Mapping[str, Callable[[TokenRequest], dict[str, Any]]] = GRANTS) -> dict[str, Any]:
    """The answer of the token endpoint; raises Refusal."""
    name = request.need("grant_type")
    if name not in grants:
        raise Refusal(70003, grant=name)
    return grants[name](request)


def authenticate(request: TokenRequest) -> tuple[App, bool]:
    """The application, and whether it came with a certificate."""
    client_id, secret = _basic(request.basic) or (request.need("client_id"), request.form.get("client_secret"))
    app = request.directory.apps.get(client_id)
    if app is None:
        raise Refusal(700016, client_id=client_id, tenant=request.directory.domain)
    if app.disabled:
        raise Refusal(7000112, client_id=client_id, name=app.name)
    if secret:
        _check_secret(app, secret, request.directory.now())
        return app, False
    if request.form.get("client_assertion_type") == ASSERTION_TYPE and request.form.get("client_assertion"):
        _check_assertion(request, app)
        return app, True
    raise Refusal(7000218)


def _check_assertion(request: TokenRequest, app: App) -> None:
    presented = request.form["client_assertion"]
    if federated.presented(presented):
        federated.verify(presented, app, request.directory)
    else:
        assertion.verify(presented, app, _audiences(request), request.directory.now())


def _basic(header: str) -> tuple[str, str] | None:
    """Both halves are form-urlencoded before they are joined (RFC 6749, 2.3.1)."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client_id, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Refusal(900144, parameter="client_id") from error
    return unquote_plus(client_id), unquote_plus(secret)


def _check_secret(app: App, secret: str, now: float) -> None:
    ends = next((ends for value, ends in app.secrets.items() if hmac.compare_digest(value.encode(), secret.encode())), None)
    if ends is None:
        raise Refusal(7000215, client_id=app.client_id)
    if now > ends:
        raise Refusal(7000222, client_id=app.client_id)


def _audiences(request: TokenRequest) -> set[str]:
    """The token endpoint, or the issuer, under any name of the tenant."""
    directory = request.directory
    bases = [directory.login_url(name) for name in (directory.tenant, directory.domain)]
    return {f"{base}{path}" for base in bases for path in ("/oauth2/v2.0/token", "/v2.0")}


def _resource(request: TokenRequest) -> Resource:
    """The one resource that `scope` names; with application permissions its only form is `{resource}/.default`."""
    scope = request.need("scope")
    names = [part.removesuffix(DEFAULT) for part in scope.split() if part.endswith(DEFAULT)]
    if not names:
        raise Refusal(1002012, scope=scope)
    if len(set(names)) > 1:
        raise Refusal(700022, scope=scope)
    if len(names) < len(scope.split()):
        raise Refusal(70011, scope=scope)
    resource = request.directory.resource(names[0])
    if resource is None:
        raise Refusal(500011, resource=names[0], tenant=request.directory.domain)
    return resource
