"""Who we are to Azure: tokens of the app's managed identity, from the platform's own endpoint.

learn.microsoft.com/azure/app-service/overview-managed-identity, "REST endpoint reference". On a developer's machine, where there is no
such endpoint, azure-identity's DefaultAzureCredential signs in with what it finds (`az login` and others).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

import httpx
import msgspec

from mailroom.errors import IdentityDown
from mailroom.flight import Flight
from mailroom.http import repeated, retry_after
from mailroom.model.token import Token

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken

API_VERSION = "2019-08-01"
EXPIRY_MARGIN = 300.0
PAUSES = (0.5, 1.0, 2.0)
RESTART = "It is a part of the platform: this passes, or the app needs a restart."
_AGAIN = frozenset({404, 408, 410, 429, 500, 502, 503, 504})  # what azure-identity repeats for a managed identity, too


class DeveloperCredential(Protocol):
    def get_token(self, *scopes: str) -> AccessToken: ...


class _Answer(msgspec.Struct):
    """`expires_on` is in seconds since the epoch, as a string on most platforms."""

    access_token: str
    expires_on: str | int


class _Kept(NamedTuple):
    token: Token
    renew_at: float


class Identity:
    """`env` holds IDENTITY_ENDPOINT and IDENTITY_HEADER where the platform gives an identity; `client_id` chooses a user-assigned one."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        env: Mapping[str, str],
        *,
        client_id: str | None = None,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        developer: Callable[[], DeveloperCredential] | None = None,
    ) -> None:
        self._client = client
        self._endpoint = env.get("IDENTITY_ENDPOINT", "")
        self._header = env.get("IDENTITY_HEADER", "")
        self._client_id = client_id
        self._now = now
        self._sleep = sleep
        self._developer = developer or _default_credential
        self._credential: DeveloperCredential | None = None
        self._kept: dict[str, _Kept] = {}
        self._flight = Flight[Token]()

    async def token(self, resource: str, *, fresh: bool = False) -> Token:
        """For a resource such as https://storage.azure.com. All who need one at the same time wait for one call. Raises IdentityDown."""
        kept = self._kept.get(resource)
        if kept is not None and kept.renew_at > self._now() and not fresh:
            return kept.token
        return await self._flight.join(resource, lambda: self._renew(resource))

    async def _renew(self, resource: str) -> Token:
        token = await (self._from_platform(resource) if self._endpoint else self._from_developer(resource))
        left = token.expires_at - self._now()
        self._kept[resource] = _Kept(token, token.expires_at - min(EXPIRY_MARGIN, left / 2))
        return token

    async def _from_platform(self, resource: str) -> Token:
        response = await self._asked(resource)
        if not response.is_success:
            raise _refused(response, resource)
        try:
            answer = msgspec.json.decode(response.content, type=_Answer)
            return Token(answer.access_token, float(answer.expires_on))
        except ValueError as error:  # msgspec's own errors are ValueErrors
            raise IdentityDown("identity_unreadable", f"The identity endpoint's answer for {resource} is no token.") from error

    async def _asked(self, resource: str) -> httpx.Response:
        params = {"resource": resource, "api-version": API_VERSION, **({"client_id": self._client_id} if self._client_id else {})}
        headers = {"X-IDENTITY-HEADER": self._header}
        try:
            return await repeated(
                lambda: self._client.get(self._endpoint, params=params, headers=headers), pauses=PAUSES, again=_AGAIN, sleep=self._sleep
            )
        except httpx.TimeoutException as error:
            raise IdentityDown("identity_timeout", "The identity endpoint did not answer in time.", RESTART) from error
        except httpx.RequestError as error:
            raise IdentityDown("identity_down", f"The identity endpoint did not answer ({type(error).__name__}).", RESTART) from error

    async def _from_developer(self, resource: str) -> Token:
        return await asyncio.to_thread(self._signed_in, resource)

    def _signed_in(self, resource: str) -> Token:
        from azure.core.exceptions import AzureError

        self._credential = self._credential or self._developer()
        try:
            found = self._credential.get_token(f"{resource}/.default")
        except AzureError as error:
            raise IdentityDown(
                "identity_missing",
                f"There is no IDENTITY_ENDPOINT here, and nobody is signed in for {resource}.",
                "Sign in with `az login`, or for local storage set AzureWebJobsStorage to a connection string.",
            ) from error
        return Token(found.token, float(found.expires_on))


def _refused(response: httpx.Response, resource: str) -> IdentityDown:
    detail = f"The identity endpoint answered {response.status_code} for {resource}."
    if response.content.lstrip().startswith(b"<"):
        proxy = "See what answers in its place: it lies on this machine, so no proxy may stand between (NO_PROXY)."
        return IdentityDown("identity_gateway", f"{detail[:-1]}, with a web page.", proxy)
    if response.status_code == 429:
        return IdentityDown("identity_throttled", detail, "This passes by itself.", retry_after=retry_after(response.headers))
    if response.status_code in _AGAIN:
        passes = (
            "This passes by itself; if it lasts, check that the profile's `cloud` is this app's own: the platform knows no other's APIs."
        )
        return IdentityDown("identity_busy", detail, passes, retry_after=retry_after(response.headers))
    return IdentityDown(
        "identity_refused",
        detail,
        "Assign the identity to the app; where it is a user-assigned one, AZURE_CLIENT_ID must be its client id.",
    )


def _default_credential() -> DeveloperCredential:
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential()
