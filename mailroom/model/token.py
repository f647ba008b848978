"""A bearer token as an authority gave it."""

from __future__ import annotations

import hashlib
import math

import msgspec


class Token(msgspec.Struct, frozen=True):
    """`value` is opaque to us (Entra: "Access tokens" page); `expires_at` is in seconds since the epoch, `lifetime` in seconds."""

    value: str
    expires_at: float
    lifetime: float = 3600.0

    def good_until(self, margin: float) -> float:
        """When to have another one: `margin` seconds before the end, or a sixth of its life where that is less."""
        return self.expires_at - min(margin, self.lifetime / 6)

    @property
    def fingerprint(self) -> str:
        """Names this very token where the token itself must not stand: in bars, events and rows."""
        return hashlib.sha256(self.value.encode()).hexdigest()[:32]

    def __repr__(self) -> str:
        return f"Token({self.fingerprint}, expires_at={self.expires_at:.0f})"


NO_TOKEN = Token("", math.inf, math.inf)  # of accounts that do not sign in: it never ends, and nobody keeps it
