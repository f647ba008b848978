"""Key Vault over its REST API, for what the hot path needs: secrets, the public part of certificates, signatures, and when things end.

learn.microsoft.com/rest/api/keyvault. Certificates with their keys are `certificates.py`'s.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import NamedTuple

import httpx
import msgspec

from mailroom.flight import Flight
from mailroom.identity import Identity
from mailroom.model.certificate import CertificateVersion, PublicCertificate
from mailroom.ports import Signing
from mailroom.storage import fitness
from mailroom.storage.vault_answers import Bundle, Kind, Secret, decode, name_of, signature_in, version_in
from mailroom.storage.vault_wire import VaultWire

KEEP_SECONDS = 6 * 3600.0


class _Kept(NamedTuple):
    value: str
    until: float


class RestVault:
    """`url` is the vault's, `resource` what its tokens are for: https://vault.azure.net, or another cloud's."""

    def __init__(
        self,
        url: str,
        client: httpx.AsyncClient,
        identity: Identity,
        *,
        resource: str,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        keep: float = KEEP_SECONDS,
    ) -> None:
        self._wire = VaultWire(url, client, identity, resource=resource, sleep=sleep)
        self._now = now
        self._keep = keep
        self._kept: dict[str, _Kept] = {}
        self._flight = Flight[str]()

    async def secret(self, name: str, *, fresh: bool = False) -> str:
        kept = self._kept.get(name)
        if kept is not None and kept.until > self._now() and not fresh:
            return kept.value
        return await self._flight.join((name, fresh), lambda: self._read(name))

    async def set_secret(self, name: str, value: str, content_type: str = "text/plain") -> None:
        body = msgspec.json.encode({"value": value, "contentType": content_type})
        await self._wire.call("secret", name, "PUT", self._wire.address("secrets", name), body)
        self._kept.pop(name, None)

    async def ends(self) -> list[tuple[str, str, datetime]]:
        secrets, certificates = await asyncio.gather(self._list("secret"), self._list("certificate"))
        return [*secrets, *certificates]

    async def public_certificate(self, name: str, version: str = "") -> PublicCertificate:
        address = self._wire.address("certificates", name, version)
        bundle = decode(await self._wire.call("certificate", name, "GET", address), Bundle)
        found = bundle.certificate(name)
        fitness.check_enabled(name, bundle.attributes.enabled)
        fitness.check_key(name, bundle.is_fit)
        fitness.check_times(name, found.not_before, found.not_after, datetime.fromtimestamp(self._now(), UTC))
        return found

    async def certificate_versions(self, name: str) -> list[CertificateVersion]:
        found = [version_in(item) async for item in self._wire.items("certificate", "certificates", name, "versions", name=name)]
        return sorted(found, key=lambda version: version.created, reverse=True)

    async def sign(self, name: str, version: str, algorithm: Signing, digest: bytes) -> bytes:
        value = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        body = msgspec.json.encode({"alg": algorithm, "value": value})
        return signature_in(await self._wire.call("key", name, "POST", self._wire.address("keys", name, version, "sign"), body))

    async def _read(self, name: str) -> str:
        response = await self._wire.call("secret", name, "GET", self._wire.address("secrets", name))
        value = decode(response, Secret).value
        self._kept[name] = _Kept(value, self._now() + self._keep)
        return value

    async def _list(self, kind: Kind) -> list[tuple[str, str, datetime]]:
        items = [item async for item in self._wire.items(kind, f"{kind}s")]
        alive = [item for item in items if item.attributes.enabled and not (kind == "secret" and item.managed)]
        return [
            (kind, name_of(item), datetime.fromtimestamp(item.attributes.exp, UTC)) for item in alive if item.attributes.exp is not None
        ]
