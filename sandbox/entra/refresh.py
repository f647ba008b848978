"""The refresh token grant (RFC 6749, 6): each use yields a new one, and the old one stays good until its own end.

learn.microsoft.com/entra/identity-platform/refresh-tokens
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sandbox.directory import App, Directory
from sandbox.entra import delegated
from sandbox.entra.aadsts import Refusal
from sandbox.entra.grants import TokenRequest
from sandbox.entra.password import stopped
from sandbox.users import User


def refresh_token(request: TokenRequest) -> dict[str, Any]:
    directory = request.directory
    app, method = delegated.client(request)
    user = _user(directory, app, request.need("refresh_token"))
    asked = delegated.wanted(directory, app, request.need("scope"))
    stopped(user, asked.resource.uri)
    return delegated.answer(directory, app, method, user, asked)


def _user(directory: Directory, app: App, token: str) -> User:
    """Whose live refresh token of this very client it is."""
    session = directory.delegations.refresh_tokens.get(token)
    if session is None or session.client_id != app.client_id:
        raise Refusal(70000)
    if session.issued <= session.user.revoked_at:
        raise Refusal(50173, issued=_iso(session.issued), valid_from=_iso(session.user.revoked_at))
    age = directory.now() - session.issued
    if age > directory.delegations.refresh_lifetime:
        raise Refusal(700082, issued=_iso(session.issued), inactive=str(timedelta(seconds=int(age))))
    return session.user


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
