"""Who may do what: the token, the roles in it, and what Exchange grants without showing it in any token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandbox.directory import GRAPH, BadToken, Directory, client_of
from sandbox.graph.errors import GraphError, bad_request, denied

SEND = frozenset({"Mail.Send"})
WRITE = frozenset({"Mail.ReadWrite"})
READ = WRITE | {"Mail.Read"}
READ_BASIC = READ | {"Mail.ReadBasic", "Mail.ReadBasic.All"}

_FULL = {"Mail Full Access": {"Mail.Read", "Mail.ReadWrite", "Mail.Send"}}
_CHALLENGE = 'Bearer realm="", authorization_uri="{}/common/oauth2/authorize", client_id="00000003-0000-0000-c000-000000000000"'


def check(directory: Directory, authorization: str) -> dict[str, Any]:
    """The claims of a good token for Graph."""
    kind, _, token = authorization.partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise _unauthorized(directory, "Access token is empty.")
    if token.count(".") != 2:
        raise _unauthorized(directory, "IDX14100: JWT is not well formed, there are no dots (.).")
    try:
        return directory.check(token.strip(), [GRAPH])
    except BadToken as error:
        raise _unauthorized(directory, error.reason) from error


def roles(directory: Directory, claims: Mapping[str, Any], mailbox: str) -> frozenset[str]:
    """Grants add up: a role in the token covers every mailbox, whatever scope Exchange has. A user's token covers their own, no other."""
    if "scp" in claims:
        own = str(claims.get("upn", "")).lower() == mailbox.lower()
        return frozenset(str(claims["scp"]).split()) if own else frozenset()
    app = directory.apps.get(client_of(dict(claims)))
    granted: set[str] = set()
    for scope, names in app.exchange.items() if app else ():
        if scope == "*" or scope.lower() == mailbox.lower():
            granted |= {role for name in names for role in _of_exchange(name)}
    return frozenset({*claims.get("roles", ()), *granted})


def me(claims: Mapping[str, Any]) -> str:
    """Whose token it is."""
    if "scp" not in claims:
        raise bad_request("/me request is only valid with delegated authentication flow.")
    return str(claims["upn"])


def need(has: frozenset[str], any_of: frozenset[str]) -> None:
    if not has & any_of:
        raise denied()


def _of_exchange(name: str) -> set[str]:
    plain = name.removeprefix("Application ")
    return _FULL.get(plain, {plain})


def _unauthorized(directory: Directory, message: str) -> GraphError:
    headers = {"WWW-Authenticate": _CHALLENGE.format(directory.authority)}
    return GraphError(401, "InvalidAuthenticationToken", message, headers)
