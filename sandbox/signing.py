"""The keys a tenant signs its tokens with, and the check that everyone who takes such a token makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, RSAKey

ALGORITHM = "RS256"


class BadToken(Exception):
    """`reason` is worded as Microsoft's APIs word it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class WrongAudience(BadToken):
    """A good token, for somebody else."""

    def __init__(self, found: str) -> None:
        super().__init__("Access token validation failure. Invalid audience.")
        self.found = found


@dataclass(slots=True)
class SigningKeys:
    """The newest signs; all of them are published, so that tokens signed before a rotation stay good."""

    now: Callable[[], float]
    _keys: list[RSAKey] = field(default_factory=list)

    def rotate(self) -> None:
        self._keys.append(RSAKey.generate_key(2048, {"use": "sig", "alg": ALGORITHM}, auto_kid=True))

    def sign(self, claims: Mapping[str, Any]) -> str:
        key = self._all()[-1]
        return jwt.encode({"typ": "JWT", "alg": ALGORITHM, "kid": key.kid}, dict(claims), key)

    def public(self, issuer: str) -> list[dict[str, Any]]:
        """The members of the discovered key set; each names its issuer, which a careful API compares with the token's."""
        return [key.as_dict(private=False) | {"issuer": issuer} for key in self._all()]

    def verify(self, token: str) -> dict[str, Any]:
        """The claims of a token that we signed and whose time it is."""
        try:
            claims = jwt.decode(token, KeySet(list(self._all())), algorithms=[ALGORITHM]).claims
        except (JoseError, ValueError) as error:
            raise BadToken("Access token validation failure. Signature verification failed.") from error
        now = self.now()
        if now >= claims["exp"]:
            raise BadToken("Lifetime validation failed, the token is expired.")
        if now < claims["nbf"]:
            raise BadToken("Lifetime validation failed, the token is not yet valid.")
        return claims

    def _all(self) -> list[RSAKey]:
        if not self._keys:
            self.rotate()
        return self._keys
