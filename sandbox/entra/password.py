"""The password grant (RFC 6749, 4.3), and where a user's password is checked: learn.microsoft.com/entra/identity-platform/v2-oauth-ropc."""

from __future__ import annotations

import hmac
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sandbox.directory import Directory
from sandbox.entra import delegated
from sandbox.entra.aadsts import Refusal
from sandbox.entra.grants import TokenRequest
from sandbox.users import LOCKED_SECONDS, WRONG_PASSWORDS, User

FOR_PAGES = frozenset({50055, 50074, 50076, 50079})  # what a page can ask the user to settle, and a program cannot


def password(request: TokenRequest) -> dict[str, Any]:
    directory = request.directory
    if request.tenant == "common":
        raise Refusal(9001023)
    app, method = delegated.client(request)
    user = check(directory, request.need("username"), request.need("password"))
    asked = delegated.wanted(directory, app, request.need("scope"))
    stopped(user, asked.resource.uri)
    return delegated.answer(directory, app, method, user, asked)


def check(directory: Directory, name: str, given: str) -> User:
    """The user of that name, whose password it is; raises Refusal."""
    user = directory.users.get(name.lower())
    if user is None:
        raise Refusal(50034, user=name, tenant=directory.domain)
    if user.locked_until > directory.now():
        raise Refusal(50053)
    if user.federated or not hmac.compare_digest(user.password.encode(), given.encode()):
        user.wrong_passwords += 1
        if user.wrong_passwords >= WRONG_PASSWORDS:
            user.locked_until = directory.now() + LOCKED_SECONDS
        raise Refusal(50126)
    user.wrong_passwords = 0
    return user


def stopped(user: User, resource: str, *, on_a_page: bool = False) -> None:
    """Raises Refusal where something stands in the way of this user; a page would settle some of it with them."""
    if user.refusal is not None and not (on_a_page and user.refusal in FOR_PAGES):
        raise Refusal(user.refusal, resource=resource)


async def realm(directory: Directory, request: Request) -> Response:
    """`/common/userrealm/NAME`: whose passwords Entra checks itself. What msal asks before it sends one."""
    name = str(request.path_params["name"])
    user, domain = directory.users.get(name.lower()), name.rpartition("@")[2].lower()
    body = {"ver": "1.0", "account_type": "Unknown"}
    if user is not None or domain == directory.domain:
        host = directory.authority.removeprefix("https://")
        body |= {"account_type": "Managed", "domain_name": domain, "cloud_instance_name": host}
        body |= {"cloud_audience_urn": "urn:federation:MicrosoftOnline"}
    if user is not None and user.federated:
        base = f"https://adfs.{domain}/adfs/services/trust"
        body |= {"account_type": "Federated", "federation_protocol": "WSTrust", "federation_metadata_url": f"{base}/mex"}
        body |= {"federation_active_auth_url": f"{base}/2005/usernamemixed"}
    return JSONResponse(body)
