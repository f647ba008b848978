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
from mailroom.credentials._authority import Wire
from mailroom.errors import AuthorityDown, AuthorityRefused, VaultRefused
from mailroom.model.account import Profile
from mailroom.model.certificate import Certificate
from mailroom.model.token import Token
from mailroom.ports import Certificates, Vault

KEYS = {"tenant": True, "client_id": True, "secret": False, "certificate": False, "algorithm": False}
SEVERAL_TENANTS = frozenset({"common", "organizations", "consumers"})
TIMEOUT = 10.0
CERTIFICATE_SECONDS = 600.0  # a new version in the vault is seen after that, at the latest

Material = str | Certificate


def mistakes(profile: Profile) -> Iterator[tuple[str, str, str]]:
    """What is wrong with a profile's keys together: key, what was found, what would be right."""
    if profile.secret is not None and profile.certificate is not None:
        yield "certificate", "found beside a secret", "name either a secret or a certificate"
    if profile.secret is None and profile.certificate is None:
        yield "certificate", "missing", "name a certificate of the vault here, or a secret in `secret`"
    if profile.secret is not None and profile.algorithm != "PS256":
        yield "algorithm", "found beside a secret", "leave it out: only a certificate signs"


def build(profile: Profile, vault: Callable[[], Vault], certificates: Callable[[], Certificates]) -> ClientCredentials:
    return ClientCredentials(profile, vault, certificates)


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
        self._wire = self._new_wire()
        self._lock = asyncio.Lock()
        self._certificate: tuple[Certificate, float] | None = None
        self._app: tuple[Material, Any] | None = None

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
                answer = await asyncio.to_thread(self._ask, scope, material)
        except TimeoutError as error:
            self._app, self._wire = None, self._new_wire()  # the thread may still be using the old ones
            raise AuthorityDown("authority_timeout", "The authority did not answer in time.") from error
        value, lifetime = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(value, str) or not isinstance(lifetime, int | float):
            raise AuthorityDown("authority_unreadable", "The authority's answer is no token.", "Check the profile's `cloud`.")
        return Token(value, asked_at + lifetime, float(lifetime))

    def _new_wire(self) -> Wire:
        return Wire(self._timeout, tls=self._tls, now=self._now)

    def _ask(self, scope: str, material: Material) -> dict[str, Any]:
        with self._wire:
            app = self._built(material)
            app.remove_tokens_for_client()  # the keyring remembers tokens; who asks here wants a new one
            answer: dict[str, Any] = app.acquire_token_for_client([scope])
            return answer

    def _built(self, material: Material) -> Any:
        """msal's application, which has parsed the key and read the authority's metadata."""
        if self._app is None or self._app[0] != material:
            self._app = material, self._new_app(material)
        return self._app[1]

    def _new_app(self, material: Material) -> Any:
        import msal  # type: ignore[import-untyped]

        profile = self._profile
        try:
            return msal.ConfidentialClientApplication(
                profile.client_id,
                client_credential=credential(material, profile.algorithm),
                authority=f"{profile.cloud.authority}/{profile.tenant}",
                instance_discovery=False,
                http_client=self._wire,
            )
        except KeyError as error:
            raise AuthorityDown(
                "authority_unreadable", "The authority's metadata lack an endpoint.", "Check the profile's `cloud`."
            ) from error
        except ValueError as error:  # cryptography's errors about keys are ValueErrors
            detail = f"The certificate {profile.certificate!r} cannot be used to sign."
            raise VaultRefused("certificate_unusable", detail, "It needs an RSA key; make a new version of it in the vault.") from error


def credential(material: Material, algorithm: str) -> str | dict[str, str]:
    """What msal calls `client_credential`. Without a thumbprint it signs PS256 and names the certificate by SHA-256."""
    if isinstance(material, str):
        return material
    key = {"private_key": material.key_pem.decode()}
    if algorithm == "RS256":
        return {**key, "thumbprint": material.thumbprint_sha1}
    return {**key, "public_certificate": material.certificate_pem.decode()}
