"""The device authorization grant (RFC 8628): a code to type on a page, and the question whether somebody has done so.

learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from sandbox.directory import Directory
from sandbox.entra import delegated, pages
from sandbox.entra.aadsts import Refusal
from sandbox.entra.grants import TokenRequest
from sandbox.entra.password import check, stopped
from sandbox.users import Code

LIFETIME = 900
PAGE = "/common/oauth2/deviceauth"
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ23456789"  # none that is taken for another


def begin(request: TokenRequest) -> dict[str, Any]:
    """The answer of the devicecode endpoint; raises Refusal."""
    directory = request.directory
    app = directory.apps.get(request.need("client_id"))
    if app is None:
        raise Refusal(700016, client_id=request.form["client_id"], tenant=directory.domain)
    scope = request.need("scope")
    delegated.wanted(directory, app, scope)
    code = Code(app.client_id, scope, directory.now() + LIFETIME, user_code="".join(secrets.choice(_LETTERS) for _ in range(9)))
    device_code = secrets.token_urlsafe(60)
    directory.delegations.devices[device_code] = code
    where = f"{directory.authority}{PAGE}"
    return {
        "user_code": code.user_code,
        "device_code": device_code,
        "verification_uri": where,
        "expires_in": LIFETIME,
        "interval": directory.delegations.interval,
        "message": f"To sign in, use a web browser to open the page {where} and enter the code {code.user_code} to authenticate.",
    }


def device_code(request: TokenRequest) -> dict[str, Any]:
    directory = request.directory
    app, method = delegated.client(request)
    code = directory.delegations.devices.get(request.need("device_code"))
    if code is None or code.client_id != app.client_id:
        raise Refusal(70018)
    if code.ends <= directory.now():
        raise Refusal(70020)
    if code.declined:
        raise Refusal(70017)
    if code.user is None:
        raise Refusal(70016 if _patient(code, directory) else 70015)
    del directory.delegations.devices[request.form["device_code"]]
    return delegated.answer(directory, app, method, code.user, delegated.wanted(directory, app, code.scope))


def _patient(code: Code, directory: Directory) -> bool:
    """Whether the last poll was an interval ago, give or take a second: else the device is told to slow down."""
    since, code.polled = directory.now() - code.polled, directory.now()
    return since >= directory.delegations.interval - 1


def page(form: Mapping[str, str]) -> Response:
    """Where the person types the code."""
    return pages.sign_in(PAGE, {}, asks="Enter the code that your device shows, and sign in.", code=form.get("otc", ""))


def answered(directory: Directory, form: Mapping[str, str]) -> Response:
    """What they answered on it."""
    code = _typed(directory, form.get("user_code", ""))
    if code is None:
        return pages.sign_in(PAGE, {}, asks="Enter the code.", code="", problem="That code didn't work. Check the code and try again.")
    if form.get("answer") != "yes":
        code.declined = True
        return pages.told("Cancelled", "You have declined. You can close this window.")
    app = directory.apps[code.client_id]
    asked = delegated.wanted(directory, app, code.scope)
    try:
        user = check(directory, form.get("username", ""), form.get("password", ""))
        stopped(user, asked.resource.uri, on_a_page=True)
    except Refusal as refusal:
        again = form.get("username", "")
        return pages.sign_in(PAGE, {}, asks="Enter the code.", code=code.user_code, user=again, problem=refusal.text)
    delegated.consent(directory, app, user, asked)
    code.user = user
    return pages.told("Signed in", f"You have signed in to {app.name} on your device. You may now close this window.")


def _typed(directory: Directory, user_code: str) -> Code | None:
    wanted = user_code.strip().upper()
    codes = directory.delegations.devices.values()
    return next((code for code in codes if code.user_code == wanted and code.ends > directory.now() and code.user is None), None)
