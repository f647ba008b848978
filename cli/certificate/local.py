"""A key pair and self-signed certificate made on this machine, as files that only their owner can read."""

from __future__ import annotations

import calendar
import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID

from mailroom.errors import BadInput

OURS, ALL = 0o600, 0o644
EARLIER = timedelta(minutes=10)  # for machines whose clock is behind


class File(NamedTuple):
    path: Path
    content: bytes
    mode: int = OURS


def made(subject: str, months: int, bits: int, now: datetime) -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    """`subject` is an RFC 4514 string such as CN=mailroom."""
    key = rsa.generate_private_key(65537, bits)
    name, start = x509.Name.from_rfc4514_string(subject), now.astimezone(UTC).replace(microsecond=0)
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)  # to sign with, and nothing else
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(start - EARLIER)
        .not_valid_after(months_after(start, months))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return key, builder.sign(key, hashes.SHA256())


def months_after(start: datetime, months: int) -> datetime:
    """The same day of that month, or its last."""
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    return start.replace(year=year, month=month + 1, day=min(start.day, calendar.monthrange(year, month + 1)[1]))


def files(folder: Path, name: str, key: rsa.RSAPrivateKey, certificate: x509.Certificate, password: str) -> list[File]:
    """PFX and PEM, both locked with the password, and the public part for the portal."""
    lock = BestAvailableEncryption(password.encode())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock) + certificate.public_bytes(Encoding.PEM)
    return [
        File(folder / f"{name}.pfx", pkcs12.serialize_key_and_certificates(name.encode(), key, certificate, None, lock)),
        File(folder / f"{name}.pem", pem),
        File(folder / f"{name}.cer", certificate.public_bytes(Encoding.DER), ALL),
    ]


def check_free(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.exists() or path.is_symlink():
            raise _there(path)


def write(new: list[File]) -> None:
    """All of them or none, and over none that is there. Raises BadInput."""
    written: list[Path] = []
    try:
        for file in new:
            file.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(file.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file.mode)
            written.append(file.path)
            with os.fdopen(handle, "wb") as opened:
                opened.write(file.content)
    except OSError as error:
        for path in written:
            path.unlink()
        if isinstance(error, FileExistsError):
            raise _there(file.path) from error
        raise BadInput("file_unwritable", f"{file.path} cannot be written ({error.strerror}).", "Nothing was left behind.") from error


def _there(path: Path) -> BadInput:
    return BadInput("file_exists", f"{path} is there already, and nothing was written over.", "Name another place, or move it away.")
