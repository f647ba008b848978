"""The authorization code grant (RFC 6749, 4.1) with PKCE (RFC 7636): the page, the response, and the exchange of the code.

learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow. A loopback redirect matches whatever its port is (RFC 8252, 7.3).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from starlette.responses import RedirectResponse, Response

from sandbox.directory import App, Directory
from sandbox.entra import delegated, pages
from sandbox.entra.aadsts import Refusal
from sandbox.entra.grants import TokenRequest
from sandbox.entra.password import check, stopped
from sandbox.users import Code, User

LIFETIME = 600
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_KEPT = (
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "response_mode",
    "code_challenge",
    "code_challenge_method",
    "response_type",
)


def authorize(directory: Directory, path: str, query: Mapping[str, str]) -> Response:
    """The page to sign in on; or the response at once, where the hinted user is signed in already, or where the request is wrong."""
    app = _app(directory, query)
    if problem := _wrong(query):
        return _respond(query, {"error": "invalid_request", "error_description": problem})
    hinted = directory.users.get(query.get("login_hint", "").lower())
    if hinted is not None and hinted.signed_in and query.get("prompt") not in ("login", "select_account"):
        return _accepted(directory, app, hinted, query)
    asks = f"{app.name} asks for {query.get('scope', '')}."
    return pages.sign_in(path, {name: query[name] for name in _KEPT if name in query}, asks=asks, user=query.get("login_hint", ""))


def answered(directory: Directory, path: str, form: Mapping[str, str]) -> Response:
    """What the person answered on the page."""
    app = _app(directory, form)
    if form.get("answer") != "yes":
        declined = Refusal(65004)
        return _respond(form, {"error": declined.error, "error_subcode": "cancel", "error_description": declined.text})
    try:
        user = check(directory, form.get("username", ""), form.get("password", ""))
        stopped(user, delegated.wanted(directory, app, form.get("scope", "")).resource.uri, on_a_page=True)
    except Refusal as refusal:
        hidden = {name: form[name] for name in _KEPT if name in form}
        return pages.sign_in(path, hidden, asks=f"{app.name} asks again.", user=form.get("username", ""), problem=refusal.text)
    return _accepted(directory, app, user, form)


def authorization_code(request: TokenRequest) -> dict[str, Any]:
    directory = request.directory
    app, method = delegated.client(request)
    code = directory.delegations.codes.get(request.need("code"))
    if code is None or code.client_id != app.client_id or code.redirect_uri != request.form.get("redirect_uri"):
        raise Refusal(70000)
    if code.ends <= directory.now():
        raise Refusal(70008)
    if code.user is None:
        raise Refusal(54005)
    if code.challenge and not hmac.compare_digest(_challenge(request.form.get("code_verifier", "")), code.challenge):
        raise Refusal(501481)
    user, code.user = code.user, None
    return delegated.answer(directory, app, method, user, delegated.wanted(directory, app, code.scope), nonce=code.nonce)


def _accepted(directory: Directory, app: App, user: User, query: Mapping[str, str]) -> Response:
    try:
        asked = delegated.wanted(directory, app, query.get("scope", ""))
        stopped(user, asked.resource.uri, on_a_page=True)
    except Refusal as refusal:
        return _respond(query, {"error": refusal.error, "error_description": refusal.text})
    delegated.consent(directory, app, user, asked)
    code = Code(
        app.client_id,
        query.get("scope", ""),
        directory.now() + LIFETIME,
        user=user,
        redirect_uri=query["redirect_uri"],
        challenge=query.get("code_challenge", ""),
        nonce=query.get("nonce", ""),
    )
    value = f"1.{secrets.token_urlsafe(60)}"
    directory.delegations.codes[value] = code
    return _respond(query, {"code": value, "session_state": secrets.token_hex(16)})


def _app(directory: Directory, query: Mapping[str, str]) -> App:
    """Nothing is redirected before the client and its address are known (RFC 6749, 4.1.2.1); raises Refusal."""
    client_id, redirect_uri = query.get("client_id", ""), query.get("redirect_uri", "")
    app = directory.apps.get(client_id)
    if app is None:
        raise Refusal(700016, client_id=client_id, tenant=directory.domain)
    if _portless(redirect_uri) not in {_portless(uri) for uri in app.redirect_uris}:
        raise Refusal(50011, redirect_uri=redirect_uri, client_id=client_id)
    return app


def _portless(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1"):
        return f"http://{parts.hostname}{parts.path.rstrip('/')}"
    return uri


def _wrong(query: Mapping[str, str]) -> str:
    if query.get("response_type") != "code":
        return "AADSTS900144: The request body must contain the following parameter: 'response_type'."
    if "code_challenge" in query and query.get("code_challenge_method") != "S256":
        return "The code_challenge_method is not supported: it must be S256."
    return ""


def _respond(query: Mapping[str, str], fields: Mapping[str, str]) -> Response:
    sent = dict(fields) | ({"state": query["state"]} if "state" in query else {})
    if query.get("response_mode") == "form_post":
        return pages.form_post(query["redirect_uri"], sent)
    return RedirectResponse(f"{query['redirect_uri']}?{urlencode(sent)}", 302)


def _challenge(verifier: str) -> str:
    if not _VERIFIER.fullmatch(verifier):
        return ""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
