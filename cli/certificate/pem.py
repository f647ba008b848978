"""PEM: a private key, encrypted or not, and its certificates, in one file and any order (RFC 7468)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cli.certificate.entry import Contents, WrongPassword
from cli.certificate.pkcs12 import gathered

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_KEY = re.compile(rb"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)
_ENCRYPTED = re.compile(rb"ENCRYPTED")


def is_pem(data: bytes) -> bool:
    return b"-----BEGIN " in data


def is_encrypted(data: bytes) -> bool:
    return any(_ENCRYPTED.search(found.group()) for found in _KEY.finditer(data))


def contents(data: bytes, password: str) -> Contents:
    """`password` is asked for only where a key is encrypted. Raises WrongPassword, ValueError."""
    certificates = x509.load_pem_x509_certificates(data) if b"-----BEGIN CERTIFICATE-----" in data else []
    keys = [(str(number), _loaded(found.group(), password)) for number, found in enumerate(_KEY.finditer(data), 1)]
    return gathered(keys, [("", one) for one in certificates])


def _loaded(text: bytes, password: str) -> PrivateKeyTypes:
    encrypted = bool(_ENCRYPTED.search(text))
    try:
        return load_pem_private_key(text + b"\n", password.encode() if encrypted else None)
    except (ValueError, TypeError) as error:  # an empty password is a TypeError
        if encrypted:
            raise WrongPassword("the key does not open") from error
        raise ValueError("the private key cannot be read") from error
