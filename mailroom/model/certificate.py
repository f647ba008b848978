"""A certificate with its private key, as a grant needs it to sign."""

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
