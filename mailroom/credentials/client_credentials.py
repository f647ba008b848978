"""The client credentials grant (RFC 6749, 4.4) through msal: the application signs in as itself, with a secret or a certificate.

A certificate signs a client assertion (private_key_jwt, OpenID Connect Core, 9): PS256 with x5t#S256 as
learn.microsoft.com/entra/identity-platform/certificate-credentials asks for, RS256 with x5t where an authority wants that.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

from mailroom import http
from mailroom.credentials._application import Application, Material
from mailroom.credentials._authority import Wire
from mailroom.errors import AuthorityDown, AuthorityRefused
from mailroom.model.account import Profile
from mailroom.model.certificate import Certificate
from mailroom.model.token import Token
from mailroom.ports import Certificates, Parts, Vault

KEYS = {"tenant": True, "client_id": True, "secret": False, "certificate": False, "algorithm": False}
SEVERAL_TENANTS = frozenset({"common", "organizations", "consumers"})
TIMEOUT = 10.0
CERTIFICATE_SECONDS = 600.0  # a new version in the vault is seen after that, at the latest


def mistakes(profile: Profile) -> Iterator[tuple[str, str, str]]:
    """What is wrong with a profile's keys together: key, what was found, what would be right."""
    if profile.secret is not None and profile.certificate is not None:
        yield "certificate", "found beside a secret", "name either a secret or a certificate"
    if profile.secret is None and profile.certificate is None:
        yield "certificate", "missing", "name a certificate of the vault here, or a secret in `secret`"
    if profile.secret is not None and profile.algorithm != "PS256":
        yield "algorithm", "found beside a secret", "leave it out: only a certificate signs"


def build(profile: Profile, parts: Parts) -> ClientCredentials:
    return ClientCredentials(profile, parts.vault, parts.certificates)


class ClientCredentials:
    """`timeout` is for each of the two calls that the first `ask` makes, the metadata's and the token's."""

    def __init__(
        self,
        profile: Profile,
        vault: Callable[[], Vault],
        certificates: Callable[[], Certificates],
        *,
        timeout: float = TIMEOUT,
        now: Callable[[], float] = time.time,
        tls: Callable[[], ssl.SSLContext] = http.tls,
    ) -> None:
        self._profile = profile
        self._vault = vault
        self._certificates = certificates
        self._timeout = timeout
        self._now = now
        self._tls = tls
        self._lock = asyncio.Lock()
        self._certificate: tuple[Certificate, float] | None = None
        self._application: Application | None = None

    async def ask(self, scope: str) -> Token:
        """With what the vault has by now, should the authority not know what we remembered."""
        async with self._lock:
            material = await self._material()
            try:
                return await self._asked(scope, material)
            except AuthorityRefused as refused:
                newer = await self._material(fresh=True) if refused.error == "invalid_client" else material
                if newer == material:
                    raise
                return await self._asked(scope, newer)

    async def _material(self, *, fresh: bool = False) -> Material:
        if self._profile.certificate is None:
            return await self._vault().secret(self._profile.secret or "", fresh=fresh)
        if fresh or self._certificate is None or self._certificate[1] <= self._now():
            found = await self._certificates().certificate(self._profile.certificate)
            self._certificate = found, self._now() + CERTIFICATE_SECONDS
        return self._certificate[0]

    async def _asked(self, scope: str, material: Material) -> Token:
        asked_at = self._now()
        try:
            async with asyncio.timeout(2 * self._timeout + 5):  # a server that drips outlasts the timeouts of single reads
                answer = await self._answer(scope, material)
        except TimeoutError as error:
            raise AuthorityDown("authority_timeout", "The authority did not answer in time.") from error
        value, lifetime = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(value, str) or not isinstance(lifetime, int | float):
            raise AuthorityDown("authority_unreadable", "The authority's answer is no token.", "Check the profile's `cloud`.")
        return Token(value, asked_at + lifetime, float(lifetime))

    async def _answer(self, scope: str, material: Material) -> dict[str, Any]:
        application = self._application
        if application is None or application.material != material:
            wire = Wire(self._timeout, tls=self._tls, now=self._now)
            application = self._application = Application(self._profile, material, wire)
        try:
            return await asyncio.to_thread(application.ask, scope)
        except asyncio.CancelledError:  # out of time, or given up; the thread goes on, and would close the connections of the next one
            self._application = None
            raise
