"""The keys that a tenant signs its tokens with, as OpenID Connect Discovery finds them: kept for a day, read again for an unknown key."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec

from mailroom.errors import AuthorityDown
from mailroom.events import record
from mailroom.flight import Flight
from mailroom.http import repeated, retry_after
from mailroom.model.account import Api

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

KEEP = 86400.0
AGAIN = 60.0  # an unknown key makes us read again, but not more often than this: anybody may send us unknown keys
AGAIN_AFTER_FAILURE = 5.0
TIMEOUT = 5.0
MIN_BITS = 2048  # RFC 7518, 3.3
_PAUSES = (0.3,)
_BUSY = frozenset({429, 500, 502, 503, 504})
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

T = TypeVar("T")


class Trusted(NamedTuple):
    """A key, and the tenant whose tokens it may sign; `issuers` are the tenant's names in tokens of version 2 and 1."""

    key: RSAPublicKey
    tenant: str
    issuers: tuple[str, str]


class _Metadata(msgspec.Struct, frozen=True):
    issuer: str
    jwks_uri: str


class _Key(msgspec.Struct, frozen=True):
    """RFC 7517, and Entra's `issuer`."""

    kty: str
    kid: str = ""
    n: str = ""
    e: str = ""
    use: str = "sig"
    issuer: str | None = None


class _KeySet(msgspec.Struct, frozen=True):
    keys: list[_Key]


class SigningKeys:
    def __init__(self, api: Api, client: httpx.AsyncClient, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._client = client
        self._monotonic = monotonic
        self._known: dict[str, Trusted] = {}
        self._read_at = 0.0
        self._next_try = 0.0
        self._down: AuthorityDown | None = None
        self._flight = Flight[None]()

    async def find(self, kid: str) -> Trusted | None:
        """None when the authority has not published it. Raises AuthorityDown when it cannot be asked and we do not know the key."""
        now = self._monotonic()
        if (kid not in self._known or self._read_at + KEEP <= now) and self._next_try <= now:
            await self._flight.join("keys", self._read)
        if kid not in self._known and self._down is not None:
            raise AuthorityDown(self._down.code, self._down.detail, self._down.next_step, retry_after=self._next_try - now)
        return self._known.get(kid)

    async def _read(self) -> None:
        """A failure leaves what we know as it is."""
        try:
            self._known = await self._published()
        except AuthorityDown as error:
            record("keys.unreadable", warn=True, code=error.code, detail=error.detail)
            self._down, self._next_try = error, self._monotonic() + (AGAIN if self._known else AGAIN_AFTER_FAILURE)
            return
        self._down, self._read_at = None, self._monotonic()
        self._next_try = self._read_at + AGAIN

    async def _published(self) -> dict[str, Trusted]:
        cloud = self._api.cloud
        metadata = await self._get(f"{cloud.authority}/{self._api.tenant}/v2.0/.well-known/openid-configuration", _Metadata)
        tenant = metadata.issuer.removeprefix(f"{cloud.authority}/").removesuffix("/v2.0").lower()
        issuers = metadata.issuer, f"{cloud.sts}/{tenant}/"
        if metadata.issuer.lower() != f"{cloud.authority}/{tenant}/v2.0".lower() or not _GUID.fullmatch(tenant):
            raise _unreadable(f"{cloud.authority} says that the issuer of tenant {self._api.tenant} is {metadata.issuer[:200]!r}.")
        if _GUID.fullmatch(self._api.tenant) and tenant != self._api.tenant:
            raise _unreadable(f"{cloud.authority} answers for tenant {tenant}, not for {self._api.tenant}.")
        if urlsplit(metadata.jwks_uri)[:2] != urlsplit(cloud.authority)[:2]:
            raise _unreadable(f"{cloud.authority} says that its keys are elsewhere: {metadata.jwks_uri[:200]!r}.")
        found = await self._get(metadata.jwks_uri, _KeySet)
        return {key.kid: Trusted(_imported(key), tenant, issuers) for key in found.keys if _is_ours(key, tenant, issuers)}

    async def _get(self, url: str, kind: type[T]) -> T:
        host = urlsplit(url).netloc
        try:
            response = await repeated(lambda: self._client.get(url, timeout=TIMEOUT), pauses=_PAUSES, again=_BUSY)
        except httpx.RequestError as error:
            raise AuthorityDown("authority_down", f"{host} could not be asked for its keys ({type(error).__name__}).") from error
        if response.status_code in _BUSY:
            detail = f"{host} answered {response.status_code} for its keys."
            raise AuthorityDown("authority_busy", detail, retry_after=retry_after(response.headers))
        try:
            return msgspec.json.decode(response.content if response.is_success else b"", type=kind)
        except msgspec.DecodeError as error:
            raise _unreadable(f"{host} answered {response.status_code} for its keys, and not as an authority does.") from error


def _is_ours(key: _Key, tenant: str, issuers: tuple[str, str]) -> bool:
    """Keys of other tenants stand in the same document; a key that names no issuer is for all."""
    issuer = issuers[0] if key.issuer is None else key.issuer.replace("{tenantid}", tenant)
    return key.kty == "RSA" and key.use == "sig" and key.kid != "" and issuer in issuers


def _imported(key: _Key) -> RSAPublicKey:
    """Modulus and exponent are big-endian numbers in base64url (RFC 7518, 6.3.1)."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

    try:
        modulus, exponent = (int.from_bytes(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in (key.n, key.e))
        found = RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError as error:
        raise _unreadable(f"The authority's key {key.kid[:60]!r} is no RSA key.") from error
    if found.key_size < MIN_BITS:
        raise _unreadable(f"The authority's key {key.kid[:60]!r} has only {found.key_size} bits.")
    return found


def _unreadable(detail: str) -> AuthorityDown:
    return AuthorityDown("authority_unreadable", detail, "Check `tenant` and `cloud` of [api].")
