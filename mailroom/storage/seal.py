"""Sealing: compact JWE, `dir` with A256GCM (RFC 7516, RFC 7518 4.5 and 5.3), the one form that we write and take.

By hand on cryptography's AES-GCM, since importing a JOSE library takes longer than the whole rest of a cold start's work; tests hold it
to one.
"""

from __future__ import annotations

import base64
import os

import msgspec

NONCE_BYTES, TAG_BYTES = 12, 16


class _Header(msgspec.Struct, frozen=True):
    alg: str
    enc: str
    kid: str | None = None
    crit: msgspec.Raw | None = None
    zip: str | None = None


class Unopened(Exception):
    """It is no JWE of this form, or not sealed with this key, or was changed."""


def sealed(content: bytes, key: bytes, kid: str) -> str:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    head = encoded(msgspec.json.encode({"alg": "dir", "enc": "A256GCM", "kid": kid}))
    nonce = os.urandom(NONCE_BYTES)
    box = AESGCM(key).encrypt(nonce, content, head.encode())
    return f"{head}..{encoded(nonce)}.{encoded(box[:-TAG_BYTES])}.{encoded(box[-TAG_BYTES:])}"


def opened(sealed: str, key: bytes) -> bytes:
    """Raises Unopened."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        head, no_key, nonce, text, tag = sealed.split(".")
        header = msgspec.json.decode(decoded(head), type=_Header)
        if (header.alg, header.enc, header.crit, header.zip, no_key) != ("dir", "A256GCM", None, None, ""):
            raise Unopened
        parts = decoded(nonce), decoded(text), decoded(tag)
        if (len(parts[0]), len(parts[2])) != (NONCE_BYTES, TAG_BYTES):
            raise Unopened
        return AESGCM(key).decrypt(parts[0], parts[1] + parts[2], head.encode("ascii"))
    except (InvalidTag, ValueError) as error:
        raise Unopened from error


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
