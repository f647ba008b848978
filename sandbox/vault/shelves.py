"""What the vault holds, in memory: named objects with versions, and the deleted ones that can still be recovered.

A certificate is three objects of one name and version: the certificate, its key, and a secret that holds both
(learn.microsoft.com/azure/key-vault/certificates/about-certificates, "Composition of a certificate").
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.vault import pfx
from sandbox.vault.errors import VaultError, deleted, disabled, not_found

RECOVERABLE_DAYS = 90


@dataclass(slots=True, kw_only=True)
class Item:
    """One version of an object. Its times are informational: what has ended can still be read."""

    name: str
    version: str = field(default_factory=lambda: uuid.uuid4().hex)
    enabled: bool = True
    starts: int | None = None
    ends: int | None = None
    created: int = 0
    updated: int = 0
    tags: dict[str, str] | None = None

    @property
    def attributes(self) -> dict[str, Any]:
        times = {"nbf": self.starts, "exp": self.ends}
        return {
            "enabled": self.enabled,
            **{name: value for name, value in times.items() if value is not None},
            "created": self.created,
            "updated": self.updated,
            "recoveryLevel": "Recoverable+Purgeable",
            "recoverableDays": RECOVERABLE_DAYS,
        }


@dataclass(slots=True, kw_only=True)
class Secret(Item):
    """`of_certificate`: it was made with a certificate and lives and dies with it."""

    value: str
    content_type: str | None = None
    of_certificate: bool = False


@dataclass(slots=True, kw_only=True)
class Certificate(Item):
    key: rsa.RSAPrivateKey
    certificate: x509.Certificate
    policy: dict[str, Any]


ItemT = TypeVar("ItemT", bound=Item)


@dataclass(slots=True)
class Shelf(Generic[ItemT]):
    """Objects of one kind by name, the newest version last. Names are the same in any case."""

    kind: str
    now: Callable[[], float]
    _here: dict[str, list[ItemT]] = field(default_factory=dict)
    _deleted: dict[str, tuple[list[ItemT], int]] = field(default_factory=dict)

    def put(self, item: ItemT) -> ItemT:
        self.check_free(item.name)
        item.created = item.updated = int(self.now())
        self._here.setdefault(item.name.lower(), []).append(item)
        return item

    def check_free(self, name: str) -> None:
        if name.lower() in self._deleted:
            raise deleted(self.kind, name)

    def find(self, name: str, version: str = "") -> ItemT:
        """The newest version, or the named one."""
        for item in reversed(self._here.get(name.lower(), [])):
            if version in ("", item.version):
                return item
        raise not_found(self.kind, name)

    def get(self, name: str, version: str = "") -> ItemT:
        """As `find`, for its content: the newest version even if an older one is enabled and it is not."""
        item = self.find(name, version)
        if not item.enabled:
            raise disabled(self.kind)
        return item

    def newest(self) -> list[ItemT]:
        return [versions[-1] for _, versions in sorted(self._here.items())]

    def versions(self, name: str) -> list[ItemT]:
        return list(self._here.get(name.lower(), []))

    def delete(self, name: str) -> tuple[ItemT, int]:
        """The newest version and when it was deleted."""
        self.find(name)
        self._deleted[name.lower()] = (self._here.pop(name.lower()), int(self.now()))
        return self.find_deleted(name)

    def find_deleted(self, name: str) -> tuple[ItemT, int]:
        if name.lower() not in self._deleted:
            raise not_found(self.kind, name)
        versions, when = self._deleted[name.lower()]
        return versions[-1], when

    def recover(self, name: str) -> ItemT:
        self.find_deleted(name)
        self._here[name.lower()], _ = self._deleted.pop(name.lower())
        return self.find(name)

    def purge(self, name: str) -> None:
        self.find_deleted(name)
        del self._deleted[name.lower()]


class Vault:
    """The contents of one vault. Tests and set-up may fill it directly; clients do over HTTP."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.secrets: Shelf[Secret] = Shelf("Secret", now)
        self.certificates: Shelf[Certificate] = Shelf("Certificate", now)

    def set_secret(self, name: str, value: str, content_type: str | None = None, **attributes: Any) -> Secret:
        self.secrets.check_free(name)
        if any(secret.of_certificate for secret in self.secrets.versions(name)):
            raise VaultError(403, "Forbidden", "Operation set is not allowed on a secret that is managed by a certificate.")
        return self.secrets.put(Secret(name=name, value=value, content_type=content_type, **attributes))

    def create_certificate(self, name: str, policy: Mapping[str, Any] | None = None, **attributes: Any) -> Certificate:
        """Self-signed, RSA; without a policy by that of the version before, as a renewal is."""
        versions = self.certificates.versions(name)
        policy = policy or (versions[-1].policy if versions else {})
        key, certificate = pfx.self_signed(policy)
        return self.add_certificate(name, key, certificate, pfx.complete(policy, certificate, key, issuer="Self"), **attributes)

    def add_certificate(
        self, name: str, key: rsa.RSAPrivateKey, certificate: x509.Certificate, policy: dict[str, Any], **attributes: Any
    ) -> Certificate:
        self.secrets.check_free(name)
        starts, ends = int(certificate.not_valid_before_utc.timestamp()), int(certificate.not_valid_after_utc.timestamp())
        kept = Certificate(name=name, key=key, certificate=certificate, policy=policy, starts=starts, ends=ends, **attributes)
        content_type = policy["secret_props"]["contentType"]
        secret = Secret(
            name=name,
            version=kept.version,
            enabled=kept.enabled,
            starts=starts,
            ends=ends,
            tags=kept.tags,
            value=pfx.encode(key if policy["key_props"]["exportable"] else None, certificate, content_type),
            content_type=content_type,
            of_certificate=True,
        )
        self.secrets.put(secret)
        return self.certificates.put(kept)

    def delete_certificate(self, name: str) -> tuple[Certificate, int]:
        gone = self.certificates.delete(name)
        self.secrets.delete(name)
        return gone

    def recover_certificate(self, name: str) -> Certificate:
        self.secrets.recover(name)
        return self.certificates.recover(name)

    def purge_certificate(self, name: str) -> None:
        self.certificates.purge(name)
        self.secrets.purge(name)
