"""A bearer token as an authority gave it."""

from __future__ import annotations

import hashlib

import msgspec


class Token(msgspec.Struct, frozen=True):
    """`value` is opaque to us (Entra: "Access tokens" page); `expires_at` is in seconds since the epoch."""

    value: str
    expires_at: float

    @property
    def fingerprint(self) -> str:
        """Names this very token where the token itself must not stand: in bars, events and rows."""
        return hashlib.sha256(self.value.encode()).hexdigest()[:32]

    def __repr__(self) -> str:
        return f"Token({self.fingerprint}, expires_at={self.expires_at:.0f})"
