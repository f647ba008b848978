"""A service account's assertion (RFC 7523, 3) and who signs it.

developers.google.com/identity/protocols/oauth2/service-account, "Preparing to make an authorized API call"
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from mailroom.credentials._google_key import ServiceAccountKey, opened
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


class Signer(Protocol):
    async def assertion(self, body: Mapping[str, Any]) -> str:
        """These claims, signed in the service account's name. Raises AccountFault."""
        ...

    async def renewed(self) -> bool:
        """Whether there is another key by now than the one that was used last."""
        ...


class KeyFile:
    """Signs with the key of a file that the vault holds as a secret: JSON, or .p12 in base64."""

    def __init__(self, profile: Profile, vault: Callable[[], Vault]) -> None:
        self._profile = profile
        self._options = dict(profile.options)
        self._vault = vault
        self._key: ServiceAccountKey | None = None

    async def assertion(self, body: Mapping[str, Any]) -> str:
        key = self._key = self._key or await self._read()
        header = {"kid": key.id} if key.id else {}
        signed = signing_input(header, {"iss": key.email, **body})
        return (signed + b"." + encoded(key.sign(signed))).decode()

    async def renewed(self) -> bool:
        old, self._key = self._key, await self._read(fresh=True)
        return old is None or not old.is_same(self._key)

    async def _read(self, *, fresh: bool = False) -> ServiceAccountKey:
        name, vault = self._profile.secret or "", self._vault()
        text = await vault.secret(name, fresh=fresh)
        own = self._options.get("password_secret")
        password = await vault.secret(own, fresh=fresh) if own else None
        email, alias = self._options.get("service_account", ""), self._options.get("alias", "")
        return await asyncio.to_thread(opened, name, text, email=email, password=password, alias=alias)
