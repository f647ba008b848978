"""A service account's assertion (RFC 7523, 3) and who signs it.

developers.google.com/identity/protocols/oauth2/service-account, "Preparing to make an authorized API call"
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, NamedTuple, Protocol

import msgspec

from mailroom.credentials._google_key import ServiceAccountKey, opened
from mailroom.credentials._versions import Versions
from mailroom.model.account import Profile
from mailroom.ports import Vault

LIFETIME = 3600  # the most that Google takes
SKEW = 300  # seconds that clocks may be apart: an assertion is dated back so far, since Google takes none from the future


def claims(scope: str, subject: str, audience: str, now: float) -> dict[str, Any]:
    """All but `iss`, which is the signer's. Without a subject the token would be the service account's own, which has no mailbox."""
    issued = int(now) - SKEW
    return {"scope": scope, "sub": subject, "aud": audience, "iat": issued, "exp": issued + LIFETIME}


def signing_input(header: Mapping[str, str], body: Mapping[str, Any]) -> bytes:
    """What is signed (RFC 7515, 5.1)."""
    return b".".join(encoded(msgspec.json.encode(part)) for part in ({"alg": "RS256", "typ": "JWT", **header}, body))


def encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


class Signed(NamedTuple):
    """`version` is the certificate's, "" for what has none."""

    assertion: str
    version: str = ""


class Signer(Protocol):
    def assertions(self, body: Mapping[str, Any]) -> AsyncGenerator[Signed, None]:
        """These claims in the service account's name, by one key after the other, the likeliest first. Raises AccountFault."""
        ...

    def taken(self, signed: Signed) -> None:
        """Google took this one."""
        ...


class KeyFile:
    """Signs with the key of a file that the vault holds as a secret, JSON or .p12: the remembered one, then a newer one if there is."""

    def __init__(self, profile: Profile, vault: Callable[[], Vault]) -> None:
        self._profile = profile
        self._options = dict(profile.options)
        self._vault = vault
        self._key: ServiceAccountKey | None = None

    async def assertions(self, body: Mapping[str, Any]) -> AsyncGenerator[Signed, None]:
        remembered = self._key = self._key or await self._read()
        yield Signed(_by(remembered, body))
        newest = self._key = await self._read(fresh=True)
        if not newest.is_same(remembered):
            yield Signed(_by(newest, body))

    def taken(self, signed: Signed) -> None:
        """The key that was read last is remembered."""

    async def _read(self, *, fresh: bool = False) -> ServiceAccountKey:
        name, vault = self._profile.secret or "", self._vault()
        text = await vault.secret(name, fresh=fresh)
        own = self._options.get("password_secret")
        password = await vault.secret(own, fresh=fresh) if own else None
        email, alias = self._options.get("service_account", ""), self._options.get("alias", "")
        return await asyncio.to_thread(opened, name, text, email=email, password=password, alias=alias)


class CertificateKey:
    """Signs with the key of a certificate of the vault, here or there; its public part was uploaded as a key of the service account.

    Its header names no key: then Google tries all that the account has.
    """

    def __init__(self, profile: Profile, versions: Versions) -> None:
        self._email = dict(profile.options)["service_account"]
        self._versions = versions

    async def assertions(self, body: Mapping[str, Any]) -> AsyncGenerator[Signed, None]:
        signed = signing_input({}, {"iss": self._email, **body})
        digest = hashlib.sha256(signed).digest()
        async with aclosing(self._versions.candidates()) as versions:
            async for version in versions:
                yield Signed(_joined(signed, await self._versions.sign(version, "RS256", digest)), version)

    def taken(self, signed: Signed) -> None:
        self._versions.taken(signed.version)


def _by(key: ServiceAccountKey, body: Mapping[str, Any]) -> str:
    signed = signing_input({"kid": key.id} if key.id else {}, {"iss": key.email, **body})
    return _joined(signed, key.sign(signed))


def _joined(signed: bytes, signature: bytes) -> str:
    return (signed + b"." + encoded(signature)).decode()
