"""Who may do what in a Gmail mailbox: the token, its scopes, and whom it acts as."""

from __future__ import annotations

from starlette.requests import Request

from sandbox.google.errors import ApiError, insufficient, unauthenticated
from sandbox.google.mailbox import Mailbox
from sandbox.google.post import PostOffice
from sandbox.google.workspace import FULL, MODIFY, READONLY, SCOPE, SEND, Grant, Workspace

SENDING = frozenset({SEND, MODIFY, FULL, f"{SCOPE}gmail.compose"})
READING = frozenset({READONLY, MODIFY, FULL})


def bearer(request: Request) -> str:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def granted(workspace: Workspace, request: Request) -> Grant:
    found = workspace.grant(bearer(request))
    if found is None:
        raise unauthenticated()
    return found


def mailbox_of(office: PostOffice, request: Request, any_of: frozenset[str]) -> Mailbox:
    grant, user = granted(office.workspace, request), str(request.path_params["user"])
    if not grant.scopes & any_of:
        raise insufficient()
    if user == "me":
        user = grant.subject
    if user.lower() != grant.subject.lower():
        raise ApiError(403, "forbidden", f"Delegation denied for {grant.subject}")
    if office.workspace.mailbox(user) is None:
        raise ApiError(400, "failedPrecondition", "Mail service not enabled")
    return office.mailbox(user)
