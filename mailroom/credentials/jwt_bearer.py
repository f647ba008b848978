"""The JWT bearer grant (RFC 7523, 2.1) with Google: a service account signs in for a mailbox of its Workspace domain.

developers.google.com/identity/protocols/oauth2/service-account. The domain's administrator must have delegated the scopes to it; each
mailbox has a token of its own. Its key is a file in the vault (`secret`: JSON or .p12), or that of a certificate of the vault
(`certificate`), which with `key = "vault"` never leaves it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import Any

import httpx

from mailroom.credentials import _google_answers as answers
from mailroom.credentials._authority import host
from mailroom.credentials._google_assertion import CertificateKey, KeyFile, Signer, claims
from mailroom.credentials._sources import versions_of
from mailroom.errors import AuthorityDown, AuthorityRefused
from mailroom.model.account import Profile
from mailroom.model.token import Token
from mailroom.ports import Parts

KEYS = {"secret": False, "certificate": False, "key": False, "service_account": False, "password_secret": False, "alias": False}
PER_MAILBOX = True
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TIMEOUT = 10.0
_EMAIL = "should be the service account's e-mail address, such as mailroom@PROJECT.iam.gserviceaccount.com"


def mistakes(profile: Profile) -> Iterator[tuple[str, str, str]]:
    options = dict(profile.options)
    email = options.get("service_account", "")
    if email and "@" not in email:
        yield "service_account", "found no address", _EMAIL
    if profile.secret is None and profile.certificate is None:
        yield "secret", "missing", "name the vault's secret that holds the key file (JSON or .p12) here, or a certificate in `certificate`"
    elif profile.secret is not None and profile.certificate is not None:
        yield "certificate", "found beside a secret", "name either the key file or a certificate"
    elif profile.certificate is not None and not email:
        yield "service_account", "missing", _EMAIL
    if options.get("key", "vault") != "vault":
        yield "key", "found something else", 'should be "vault", where the key stays and signs, or left out: then it is read'
    for key in ("password_secret", "alias") if profile.certificate is not None else ("key",):
        if key in options:
            yield key, f"found {'with' if profile.certificate else 'without'} a certificate", "leave it out"


def build(profile: Profile, parts: Parts) -> JwtBearer:
    by_file = profile.certificate is None
    signer: Signer = KeyFile(profile, parts.vault) if by_file else CertificateKey(profile, versions_of(profile, parts))
    return JwtBearer(profile, signer, parts.client)


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
        """With the first of the signer's keys that Google knows."""
        refused: AuthorityRefused | None = None
        url, asked_at = f"{self._profile.cloud.google_authority}/token", self._now()
        async with aclosing(self._signer.assertions(claims(scope, self._profile.subject, url, asked_at))) as assertions:
            async for signed in assertions:
                try:
                    token = await self._asked(url, signed.assertion, scope)
                except AuthorityRefused as error:
                    if error.code != "google_key_unknown":
                        raise
                    refused = error
                else:
                    self._signer.taken(signed)
                    return token
        raise refused or LookupError("a signer has at least one key")

    async def _asked(self, url: str, assertion: str, scope: str) -> Token:
        asked_at = self._now()
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
