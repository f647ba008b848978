"""JWTs that the key of a certificate signs, wherever that key is: client assertions, and proofs that a key is owned.

RFC 7523, 3, and learn.microsoft.com/entra/identity-platform/certificate-credentials.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from mailroom.model.account import Profile
from mailroom.ports import Signing

HALF_LIFE = 300.0  # an assertion is good for ten minutes, now in their middle: so a clock may be five minutes off, either way

Sign = Callable[[Signing, bytes], Awaitable[bytes]]


class Thumbprints(Protocol):
    """What names a certificate to whoever knows its public part."""

    @property
    def thumbprint_sha1(self) -> str: ...

    @property
    def thumbprint_sha256(self) -> str: ...


async def assertion(profile: Profile, certificate: Thumbprints, sign: Sign, now: float) -> str:
    """Who this application is, for the token endpoint of its tenant (private_key_jwt)."""
    client = profile.client_id
    audience = f"{profile.cloud.authority}/{profile.tenant}/oauth2/v2.0/token"
    times = {"nbf": int(now - HALF_LIFE), "iat": int(now), "exp": int(now + HALF_LIFE)}
    claims = {"aud": audience, "iss": client, "sub": client, "jti": str(uuid.uuid4()), **times}
    return await _signed(header(certificate, profile.algorithm), claims, profile.algorithm, sign)


async def proof(issuer: str, audience: str, certificate: Thumbprints, sign: Sign, now: float) -> str:
    """That we have a key of the application whose object id is `issuer`: graph/application-rollkey-prooftoken, whose sample signs RS256."""
    claims = {"aud": audience, "iss": issuer, "nbf": int(now - HALF_LIFE), "exp": int(now + HALF_LIFE)}
    return await _signed(header(certificate, "RS256") | {"kid": certificate.thumbprint_sha1.upper()}, claims, "RS256", sign)


def header(certificate: Thumbprints, algorithm: Signing) -> dict[str, str]:
    """RFC 7515, 4.1.7 and 4.1.8: each algorithm with the thumbprint that Entra documents beside it."""
    if algorithm == "RS256":
        return {"alg": algorithm, "typ": "JWT", "x5t": encode(bytes.fromhex(certificate.thumbprint_sha1))}
    return {"alg": algorithm, "typ": "JWT", "x5t#S256": encode(bytes.fromhex(certificate.thumbprint_sha256))}


def encode(data: bytes) -> str:
    """base64url without padding (RFC 7515, 2): Graph refuses a proof that has any."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def _signed(head: dict[str, str], claims: dict[str, Any], algorithm: Signing, sign: Sign) -> str:
    signed = ".".join(encode(msgspec.json.encode(part)) for part in (head, claims))
    return f"{signed}.{encode(await sign(algorithm, hashlib.sha256(signed.encode()).digest()))}"
