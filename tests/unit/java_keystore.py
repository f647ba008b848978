"""Writes JKS keystores as Java does, for tests that want more of them than keytool can make."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from typing import NamedTuple

KEY, CERTIFICATE = 1, 2
PROTECTION = bytes.fromhex("300e060a2b060104012a021101010500")  # SEQUENCE { 1.3.6.1.4.1.42.2.17.1.1, NULL }


class Key(NamedTuple):
    """`pkcs8` and `chain` are DER."""

    alias: str
    pkcs8: bytes
    chain: Sequence[bytes]
    password: str


class Trusted(NamedTuple):
    alias: str
    certificate: bytes


def keystore(entries: Sequence[Key | Trusted], password: str, *, version: int = 2) -> bytes:
    body = struct.pack(">III", 0xFEEDFEED, version, len(entries)) + b"".join(_entry(entry, version) for entry in entries)
    return body + digest(body, password)


def digest(body: bytes, password: str) -> bytes:
    return hashlib.sha1(password.encode("utf-16-be") + b"Mighty Aphrodite" + body).digest()


def _entry(entry: Key | Trusted, version: int) -> bytes:
    head = struct.pack(">I", KEY if isinstance(entry, Key) else CERTIFICATE) + text(entry.alias) + bytes(8)
    if isinstance(entry, Trusted):
        return head + _certificate(entry.certificate, version)
    chain = b"".join(_certificate(one, version) for one in entry.chain)
    return head + _sized(locked(entry.pkcs8, entry.password)) + struct.pack(">I", len(entry.chain)) + chain


def _certificate(der: bytes, version: int) -> bytes:
    return (text("X.509") if version == 2 else b"") + _sized(der)


def text(value: str) -> bytes:
    """Modified UTF-8: each UTF-16 unit by itself, and no zero byte."""
    units = struct.unpack(f">{len(value.encode('utf-16-be')) // 2}H", value.encode("utf-16-be"))
    raw = b"".join(chr(unit).encode("utf-8", "surrogatepass") if unit else b"\xc0\x80" for unit in units)
    return struct.pack(">H", len(raw)) + raw


def locked(plain: bytes, password: str) -> bytes:
    """A chain of SHA-1 over password and salt, xored over the key."""
    secret, salt = password.encode("utf-16-be"), os.urandom(20)
    stream, link = b"", salt
    while len(stream) < len(plain):
        link = hashlib.sha1(secret + link).digest()
        stream += link
    masked = bytes(a ^ b for a, b in zip(plain, stream, strict=False))
    sealed = salt + masked + hashlib.sha1(secret + plain).digest()
    return _der(0x30, PROTECTION + _der(0x04, sealed))


def _der(tag: int, content: bytes) -> bytes:
    return bytes([tag, 0x82]) + struct.pack(">H", len(content)) + content


def _sized(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
