"""What the vault holds, in memory: secrets and certificates.

A certificate is three objects of one name and version: the certificate, its key, and a secret that holds both
(learn.microsoft.com/azure/key-vault/certificates/about-certificates, "Composition of a certificate").
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.vault import pfx
from sandbox.vault.errors import VaultError
from sandbox.vault.shelves import Item, Shelf


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


class Vault:
    """The contents of one vault. Tests and set-up may fill it directly; clients do over HTTP."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.secrets: Shelf[Secret] = Shelf("Secret", now)
        self.certificates: Shelf[Certificate] = Shelf("Certificate", now)
        self.polls = 0  # how often a certificate that is being made is answered as in progress
        self.outcome = "completed"

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
