"""What all grants of users have in common: the client, the scope, the consent, and the answer with its three tokens.

learn.microsoft.com/entra/identity-platform/scopes-oidc: with `{resource}/.default` a token has everything that was consented to.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from sandbox.directory import GRAPH, App, Directory, Resource
from sandbox.entra.aadsts import Refusal
from sandbox.entra.grants import DEFAULT, TokenRequest, authenticate
from sandbox.users import Session, User

OUTLOOK = "https://outlook.office365.com"
OIDC = frozenset({"openid", "profile", "offline_access", "email"})
PERMISSIONS = {
    GRAPH: {"Mail.Send", "Mail.Read", "Mail.ReadWrite", "Mail.Send.Shared", "User.Read"},
    OUTLOOK: {"SMTP.Send", "IMAP.AccessAsUser.All", "POP.AccessAsUser.All"},
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """`permissions` is empty for `.default`; `oidc` holds openid, offline_access and their like."""

    resource: Resource
    permissions: frozenset[str]
    oidc: frozenset[str]


def client(request: TokenRequest) -> tuple[App, str]:
    """The application, and how it proved itself: 0 not at all (a public client), 1 by a secret, 2 by a certificate."""
    app = request.directory.apps.get(request.form.get("client_id", ""))
    presented = request.basic or request.form.get("client_secret") or request.form.get("client_assertion")
    if app is not None and app.public and not app.disabled:
        if not presented:
            return app, "0"
        if not (app.secrets or app.certificates):
            raise Refusal(700025)
    app, certified = authenticate(request)
    return app, "2" if certified else "1"


def wanted(directory: Directory, app: App, scope: str) -> Wanted:
    """Of one resource; a permission without one is Graph's."""
    parts = frozenset(scope.split())
    pairs = [_split(directory, part) for part in sorted(parts - OIDC)] or [(_known(directory, GRAPH), "")]
    resources = {resource.uri for resource, _ in pairs}
    if len(resources) > 1:
        raise Refusal(28000, scope=scope)
    resource, names = pairs[0][0], frozenset(name for _, name in pairs if name)
    for name in sorted(names - PERMISSIONS.get(resource.uri, set())):
        raise Refusal(650053, name=app.name, permission=name, resource=resource.uri)
    return Wanted(resource, names, parts & OIDC)


def consented(directory: Directory, app: App, user: User, asked: Wanted) -> frozenset[str]:
    """All that this app may do for this user on this resource; raises Refusal where something that was asked for is not among it."""
    uri = asked.resource.uri
    known = PERMISSIONS.get(uri, set())
    own = {name for name in known if (app.client_id, user.object_id, f"{uri}/{name}") in directory.delegations.consents}
    granted = frozenset(own | app.delegated.get(uri, set()))
    if asked.permissions - granted or not granted:
        raise Refusal(65001, client_id=app.client_id, name=app.name)
    return granted


def consent(directory: Directory, app: App, user: User, asked: Wanted) -> None:
    """The user's own, given on a page."""
    directory.delegations.consents |= {(app.client_id, user.object_id, f"{asked.resource.uri}/{name}") for name in asked.permissions}


def answer(directory: Directory, app: App, method: str, user: User, asked: Wanted, *, nonce: str = "") -> dict[str, Any]:
    """RFC 6749, 5.1; a refresh token only with `offline_access`, an ID token only with `openid`."""
    granted = consented(directory, app, user, asked)
    body: dict[str, Any] = {
        "token_type": "Bearer",
        "scope": " ".join([*sorted(f"{asked.resource.uri}/{name}" for name in granted), *sorted(asked.oidc - {"offline_access"})]),
        "expires_in": directory.lifetime,
        "ext_expires_in": directory.lifetime,
        "access_token": directory.issue_delegated(user, app.client_id, asked.resource, granted, method),
        "client_info": _encoded({"uid": user.object_id, "utid": directory.tenant}),
    }
    if "offline_access" in asked.oidc:
        body["refresh_token"] = directory.delegations.begin(Session(user, app.client_id, method != "0", directory.now()))
    if "openid" in asked.oidc:
        body["id_token"] = _id_token(directory, app, user, nonce)
    return body


def _id_token(directory: Directory, app: App, user: User, nonce: str) -> str:
    now = int(directory.now())
    claims = {
        "aud": app.client_id,
        "iss": directory.issuer(2),
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
        "name": user.name or user.address,
        "oid": user.object_id,
        "preferred_username": user.address,
        "sub": user.object_id,
        "tid": directory.tenant,
        "ver": "2.0",
    }
    return directory.keys.sign(claims | ({"nonce": nonce} if nonce else {}))


def _split(directory: Directory, part: str) -> tuple[Resource, str]:
    """`https://graph.microsoft.com/Mail.Send` -> Graph and Mail.Send; the name is "" for `.default`."""
    if part.endswith(DEFAULT):
        return _known(directory, part.removesuffix(DEFAULT)), ""
    uri, slash, name = part.rpartition("/")
    return _known(directory, uri if slash else GRAPH), name


def _known(directory: Directory, name: str) -> Resource:
    resource = directory.resource(name)
    if resource is None:
        raise Refusal(500011, resource=name, tenant=directory.domain)
    return resource


def _encoded(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
