"""Which application calls the API from a terminal: by its secret from the environment, else the one that is signed in to Azure.

That is a managed identity, or what azure-identity finds (`az login --service-principal`). A person's own token the gate does not take.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import httpx
import msgspec

from mailroom.errors import AuthorityDown, AuthorityRefused, BadSettings
from mailroom.model.account import Api
from mailroom.model.token import Token
from mailroom.ports import Identity

HOW = "or leave both out where an application is signed in by `az login --service-principal`, or the platform gives an identity"


class _Answer(msgspec.Struct):
    access_token: str = ""
    error: str = ""
    error_description: str = ""


def signing_in(
    env: Mapping[str, str], api: Callable[[], Api | None], client: httpx.AsyncClient, identity: Callable[[], Identity]
) -> Callable[[bool], Awaitable[str]]:
    """A function that gives a token, which is kept until a fresh one is asked for. Raises BadSettings where something is missing.

    `api` is the table of accounts.toml, which is read only for what the environment does not say.
    """
    client_id, secret = env.get("MAILROOM_CLIENT_ID", ""), env.get("MAILROOM_CLIENT_SECRET", "")
    if bool(client_id) != bool(secret):
        missing = "MAILROOM_CLIENT_SECRET" if client_id else "MAILROOM_CLIENT_ID"
        raise BadSettings([f"{missing}: not set; a caller signs in with its client id and secret, {HOW}"])
    audience, authority = _where(env, api, needs_tenant=bool(client_id))
    kept: list[str] = []

    async def token(fresh: bool) -> str:
        if fresh or not kept:
            form = {"client_id": client_id, "client_secret": secret, "scope": f"{audience}/.default", "grant_type": "client_credentials"}
            kept[:] = [await _asked(client, authority, form) if client_id else (await _from(identity(), audience, fresh)).value]
        return kept[0]

    return token


def _where(env: Mapping[str, str], api: Callable[[], Api | None], *, needs_tenant: bool) -> tuple[str, str]:
    """The audience, and the authority with its tenant."""
    audience, tenant = env.get("MAILROOM_AUDIENCE", ""), env.get("MAILROOM_TENANT", "")
    found = api() if not audience or needs_tenant else None
    authority = found.cloud.authority if found else ""
    if found:
        audience = audience or max(found.audiences, key=lambda name: name.startswith("api://"))
        tenant = tenant or found.tenant
    mistakes = [] if audience else ["MAILROOM_AUDIENCE: not set, and accounts.toml has no [api]; set the API's App ID URI: api://…"]
    if needs_tenant and not (tenant and authority):
        mistakes.append("MAILROOM_TENANT: not set, and accounts.toml has no [api]; set the tenant's id")
    if mistakes:
        raise BadSettings(mistakes)
    return audience, f"{authority}/{tenant}"


async def _from(identity: Identity, audience: str, fresh: bool) -> Token:
    return await identity.token(audience, fresh=fresh)


async def _asked(client: httpx.AsyncClient, authority: str, form: Mapping[str, str]) -> str:
    """By the client credentials grant (RFC 6749, 4.4)."""
    try:
        answer = await client.post(f"{authority}/oauth2/v2.0/token", data=dict(form))
        found = msgspec.json.decode(answer.content, type=_Answer)
    except (httpx.RequestError, msgspec.DecodeError) as error:
        raise AuthorityDown("authority_down", f"No token could be had from {authority} ({type(error).__name__}).") from error
    if not answer.is_success or not found.access_token:
        said = found.error_description.partition("\r\n")[0] or f"It answered {answer.status_code}."
        step = "Check MAILROOM_CLIENT_ID, MAILROOM_CLIENT_SECRET and MAILROOM_TENANT."
        raise AuthorityRefused("sign_in_refused", said, step, error=found.error)
    return found.access_token
