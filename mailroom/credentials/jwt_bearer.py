"""The JWT bearer grant (RFC 7523, 2.1) with Google: a service account signs in for a mailbox of its Workspace domain.

developers.google.com/identity/protocols/oauth2/service-account. The domain's administrator must have delegated the scopes to it; each
mailbox has a token of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from mailroom.credentials import _google_answers as answers
from mailroom.credentials._authority import host
from mailroom.credentials._google_assertion import KeyFile, Signer, claims
from mailroom.errors import AuthorityDown, AuthorityRefused
from mailroom.model.account import Profile
from mailroom.model.token import Token
from mailroom.ports import Parts

KEYS = {"secret": True, "service_account": False, "password_secret": False, "alias": False}
PER_MAILBOX = True
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TIMEOUT = 10.0


def mistakes(profile: Profile) -> Iterator[tuple[str, str, str]]:
    email = dict(profile.options).get("service_account", "")
    if email and "@" not in email:
        yield "service_account", "found no address", "should be its e-mail address, such as mailroom@PROJECT.iam.gserviceaccount.com"


def build(profile: Profile, parts: Parts) -> JwtBearer:
    return JwtBearer(profile, KeyFile(profile, parts.vault), parts.client)


class JwtBearer:
    """`profile.subject` is the mailbox to sign in for."""

    def __init__(
        self,
        profile: Profile,
        signer: Signer,
        client: Callable[[], httpx.AsyncClient],
        *,
        timeout: float = TIMEOUT,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._profile = profile
        self._signer = signer
        self._client = client
        self._timeout = timeout
        self._now = now

    async def ask(self, scope: str) -> Token:
        """With the key that the vault has by now, should Google not know the one that we remembered."""
        try:
            return await self._asked(scope)
        except AuthorityRefused as refused:
            if refused.code != "google_key_unknown" or not await self._signer.renewed():
                raise
            return await self._asked(scope)

    async def _asked(self, scope: str) -> Token:
        url, asked_at = f"{self._profile.cloud.google_authority}/token", self._now()
        assertion = await self._signer.assertion(claims(scope, self._profile.subject, url, asked_at))
        response = await posted(self._client(), url, self._timeout, data={"grant_type": GRANT, "assertion": assertion})
        failed = answers.failure(response, asked_at, scope)
        if failed:
            raise failed
        given = answers.given(response, answers.Given)
        return Token(given.access_token, asked_at + given.expires_in, given.expires_in)


async def posted(client: httpx.AsyncClient, url: str, timeout: float, **content: Any) -> httpx.Response:  # noqa: ASYNC109  # httpx's own
    """One request to Google's sign-in. Raises AuthorityDown where there is no answer."""
    try:
        return await client.post(url, timeout=timeout, **content)
    except httpx.TimeoutException as error:
        raise AuthorityDown("authority_timeout", f"{host(url)} did not answer in time.") from error
    except httpx.RequestError as error:  # its own text may hold an address; its kind is enough
        raise AuthorityDown("authority_down", f"{host(url)} could not be reached ({type(error).__name__}).") from error
