"""Certificates as grants know them: with the private key, the public part alone, or no more than what a list of versions says."""

from __future__ import annotations

from datetime import datetime

import msgspec


class Certificate(msgspec.Struct, frozen=True):
    """PEM both; thumbprints are lower-case hex of the DER certificate; `version` is the vault's."""

    key_pem: bytes
    certificate_pem: bytes
    thumbprint_sha1: str
    thumbprint_sha256: str
    not_before: datetime
    not_after: datetime
    version: str

    def __repr__(self) -> str:
        return f"Certificate({self.thumbprint_sha1}, not_after={self.not_after:%Y-%m-%d})"


class PublicCertificate(msgspec.Struct, frozen=True):
    """The public part: DER, and thumbprints as in `Certificate`. `version` is the vault's, also of the key that signs for it."""

    name: str
    version: str
    der: bytes
    thumbprint_sha1: str
    thumbprint_sha256: str
    not_before: datetime
    not_after: datetime


class CertificateVersion(msgspec.Struct, frozen=True):
    """One version as the vault lists it."""

    version: str
    created: datetime
    not_before: datetime
    not_after: datetime
    enabled: bool = True

    def usable(self, now: datetime) -> bool:
        return self.enabled and self.not_before <= now < self.not_after
