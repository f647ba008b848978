"""The vault's certificates as a person keeps them: made, imported, listed. learn.microsoft.com/rest/api/keyvault/certificates

It takes "Key Vault Certificates Officer"; the app itself, which only uses them, never does any of this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from mailroom.errors import VaultDown, VaultRefused
from mailroom.storage.vault_answers import Attributes, Item, decode
from mailroom.storage.vault_wire import VaultWire

PEM_TYPE = "application/x-pem-file"
PFX_TYPE = "application/x-pkcs12"
CLIENT = "1.3.6.1.5.5.7.3.2"  # extended key usage: client authentication (RFC 5280, 4.2.1.12)
MONTHS, BITS = 12, 2048
RENEW_AT = 80  # percent of a certificate's life
POLLS, PAUSE = 60, 1.0

Policy = dict[str, Any]


class Bundle(msgspec.Struct, frozen=True):
    """A certificate: `cer` is its DER. The policy, which is that of the next version too, comes with the newest alone."""

    id: str
    cer: bytes
    attributes: Attributes
    policy: Policy | None = None

    @property
    def version(self) -> str:
        return self.id.rstrip("/").split("/")[-1]

    @property
    def exportable(self) -> bool | None:
        found: bool | None = (self.policy or {}).get("key_props", {}).get("exportable")
        return found


class _Said(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class _Making(msgspec.Struct, frozen=True):
    """What the vault says of a certificate that it is making."""

    status: str
    error: _Said | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What a new version is to be like. What is None stays as in the version before, or where there is none becomes the default."""

    subject: str | None = None
    months: int | None = None
    bits: int | None = None
    exportable: bool | None = None
    auto_renew: bool | None = None


class CertificateVault:
    """Writes are tried once: a version too many would be no harm, but nobody would know why it is there."""

    def __init__(self, wire: VaultWire, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._wire = wire
        self._sleep = sleep

    async def make(self, name: str, wish: Wish) -> Bundle:
        """A new version with a key of its own, self-signed. Raises VaultRefused, VaultDown, IdentityDown."""
        policy = made_by(name, await self._policy(name), wish)
        await self._post(name, "create", {"policy": policy})
        await self._made(name)
        return await self.get(name)

    async def bring(self, name: str, pem: str, bits: int, exportable: bool | None) -> Bundle:
        """Imports key and chain as a new version. Raises VaultRefused, VaultDown, IdentityDown."""
        before = await self._policy(name)
        leaves = bool((before or {}).get("key_props", {}).get("exportable")) if exportable is None else exportable
        key = {"kty": "RSA", "key_size": bits, "exportable": leaves, "reuse_key": False}
        await self._post(name, "import", {"value": pem, "policy": {"key_props": key, "secret_props": {"contentType": PEM_TYPE}}})
        return await self.get(name)

    async def get(self, name: str, version: str = "") -> Bundle:
        """Whatever its state: what has ended or is disabled can be looked at too."""
        return decode(await self._wire.call("certificate", name, "GET", self._wire.address("certificates", name, version)), Bundle)

    async def versions(self, name: str) -> list[Item]:
        return [item async for item in self._wire.items("certificate", "certificates", name, "versions", name=name)]

    async def all(self) -> list[Item]:
        """What ends first comes first."""
        found = [item async for item in self._wire.items("certificate", "certificates")]
        return sorted(found, key=lambda item: item.attributes.exp or 0)

    async def _policy(self, name: str) -> Policy | None:
        try:
            return (await self.get(name)).policy
        except VaultRefused as refused:
            if refused.code != "vault_certificate_missing":
                raise
            return None

    async def _post(self, name: str, verb: str, body: dict[str, Any]) -> None:
        address = self._wire.address("certificates", name, verb)
        try:
            await self._wire.call("certificate", name, "POST", address, msgspec.json.encode(body), once=True)
        except VaultDown as down:
            step = f"Whether it was done is not known: `mailroom certificate show {name}` lists the versions. Then try again."
            raise VaultDown(down.code, down.detail, step, retry_after=down.retry_after) from down

    async def _made(self, name: str) -> None:
        """Self-signed certificates take seconds. Until then `get` would find the version before."""
        for _ in range(POLLS):
            answer = await self._wire.call("certificate", name, "GET", self._wire.address("certificates", name, "pending"))
            making = decode(answer, _Making)
            if making.status == "completed":
                return
            if making.status != "inProgress":
                said = f" ({making.error.code}: {making.error.message})" if making.error else ""
                detail = f"The vault ended making {name!r} as {making.status}{said}."
                raise VaultRefused("vault_certificate_not_made", detail, "What it says tells why; the version before is as it was.")
            await self._sleep(PAUSE)
        raise VaultDown("vault_certificate_pending", f"The vault is still making {name!r}.", f"See `mailroom certificate show {name}`.")


def made_by(name: str, before: Policy | None, wish: Wish) -> Policy:
    """The whole policy: a client that leaves something out would put the vault's own default in its place."""
    old = before or {}
    key, shape = old.get("key_props") or {}, old.get("x509_props") or {}
    kind = key.get("kty") if key.get("kty") in ("RSA", "RSA-HSM") else "RSA"
    bits = wish.bits or max(key.get("key_size") or BITS, BITS)
    exportable = bool(key.get("exportable")) if wish.exportable is None else wish.exportable
    wanted = {"subject": wish.subject or shape.get("subject") or f"CN={name}"}
    wanted |= {"validity_months": wish.months or shape.get("validity_months") or MONTHS}
    usual = {"key_usage": ["digitalSignature"], "ekus": [CLIENT]}
    return {
        "key_props": {"kty": kind, "key_size": bits, "exportable": exportable, "reuse_key": False},
        "secret_props": {"contentType": (old.get("secret_props") or {}).get("contentType") or PFX_TYPE},
        "x509_props": usual | {part: value for part, value in shape.items() if value is not None} | wanted,
        "lifetime_actions": _actions(old.get("lifetime_actions"), wish.auto_renew),
        "issuer": {"name": "Self"},
    }


def _actions(before: list[Any] | None, auto_renew: bool | None) -> list[Any]:
    if before and auto_renew is None:
        return before
    kind = "AutoRenew" if auto_renew else "EmailContacts"
    return [{"trigger": {"lifetime_percentage": RENEW_AT}, "action": {"action_type": kind}}]
