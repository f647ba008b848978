"""Any file that holds a key and its certificate, told by what it begins with, never by its name; and the one key in it that is meant."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cli.certificate import jks, pem, pkcs12
from cli.certificate.entry import Contents, Entry, WrongPassword
from cli.certificate.fitness import check_key, check_times, public_key
from cli.certificate.passwords import Password
from mailroom.errors import BadInput

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

LARGEST = 10 * 1024 * 1024
READ = "PKCS #12 (.pfx, .p12), PEM, JKS and JCEKS are read"


@dataclass(frozen=True, slots=True, repr=False)
class Material:
    """A key that is fit to sign with; `chain` begins with its certificate."""

    key: RSAPrivateKey
    chain: tuple[x509.Certificate, ...]

    @property
    def certificate(self) -> x509.Certificate:
        return self.chain[0]

    def pem(self) -> str:
        """As Key Vault imports it: PKCS #8 without a password, then the chain."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return b"".join([key, *(one.public_bytes(Encoding.PEM) for one in self.chain)]).decode()


def read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise BadInput("file_unreadable", f"{path} cannot be read ({error.strerror}).", "Check its name and who may read it.") from error
    if len(data) > LARGEST:
        raise _not_one(path)
    return data


def opened(path: Path, password: Password) -> Contents:
    """All that the file holds. Raises BadInput: `keystore_password_wrong`, `keystore_unreadable`, ..."""
    data = read(path)
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # of BER, or of odd serial numbers: nobody can change those
            return _contents(path, data, password)
    except WrongPassword as error:
        detail = f"The {password.what} does not open {path.name}, or the file is damaged."
        raise BadInput(
            "keystore_password_wrong", detail, "`keytool -list -keystore FILE` or `openssl pkcs12 -in FILE -info` tries it."
        ) from error
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise BadInput("keystore_damaged", f"{path.name} cannot be read to its end: {_short(error)}.", "Export it once more.") from error


def _contents(path: Path, data: bytes, password: Password) -> Contents:
    if jks.is_jks(data):
        return jks.contents(data, password.get())
    if pem.is_pem(data):
        return pem.contents(data, password.get() if pem.is_encrypted(data) else "")
    if pkcs12.is_pkcs12(data):
        return _pkcs12(data, password)
    try:
        return Contents(trusted=(("", x509.load_der_x509_certificate(data)),))
    except ValueError as error:
        raise _not_one(path) from error


def _pkcs12(data: bytes, password: Password) -> Contents:
    """Key Vault's have no password: whoever told none is asked only where there is one."""
    if not password.told:
        try:
            return pkcs12.contents(data, "")
        except WrongPassword:
            pass
    return pkcs12.contents(data, password.get())


def chosen(path: Path, found: Contents, alias: str | None) -> Entry:
    """The entry of that name, in any case as Java has it, or the only one there is."""
    names = ", ".join(repr(entry.alias) for entry in found.entries)
    if not found.entries:
        detail = f"{path.name} holds no private key{', only certificates' if found.trusted else ''}."
        raise BadInput("keystore_key_missing", detail, "Export it again together with its key.")
    if alias is None:
        if len(found.entries) > 1:
            raise BadInput("keystore_alias_needed", f"{path.name} holds several private keys: {names}.", "Choose one with --alias.")
        return found.entries[0]
    for entry in found.entries:
        if entry.alias.casefold() == alias.casefold():
            return entry
    only = any(name.casefold() == alias.casefold() for name, _ in found.trusted)
    detail = f"{path.name} holds {'a certificate without a private key' if only else 'nothing'} as {alias!r}."
    raise BadInput("keystore_alias_missing", detail, f"Its private keys are: {names}.")


def material(path: Path, found: Contents, alias: str | None, own: Password, now: datetime) -> Material:
    """The key and its chain, fit to sign with. A key's own password is that of the whole file until another is told."""
    entry = chosen(path, found, alias)
    if not entry.chain:
        detail = f"{path.name} holds a private key and no certificate that belongs to it."
        raise BadInput("certificate_missing", detail, "Put both into one file: cat key.pem certificate.pem > both.pem")
    check_key(path.name, public_key(entry.chain[0]))
    check_times(path.name, entry.chain[0], now)
    key = _unlocked(path, entry, found.password, own)
    if not isinstance(key, RSAPrivateKey) or key.public_key() != entry.chain[0].public_key():
        detail = f"The private key {entry.alias!r} of {path.name} does not belong to its certificate."
        raise BadInput("certificate_mismatch", detail, "Export both again, from where they were made.")
    return Material(key, entry.chain)


def _unlocked(path: Path, entry: Entry, password: str, own: Password) -> PrivateKeyTypes:
    try:
        return _by_either(entry, password, own)
    except WrongPassword as error:
        by = own.what if own.told else "password of the file"
        detail = f"The {by} does not open the key {entry.alias!r} of {path.name}."
        step = f"A key may have a password of its own: {own.option}-file or {own.option}-env."
        raise BadInput("keystore_key_password_wrong", detail, step) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadInput(
            "keystore_damaged", f"The key {entry.alias!r} of {path.name} cannot be read: {_short(error)}.", "Export it once more."
        ) from error


def _by_either(entry: Entry, password: str, own: Password) -> PrivateKeyTypes:
    if entry.by_store or not own.told:
        try:
            return entry.unlock(password)
        except WrongPassword:
            if not own.can_ask:
                raise
    return entry.unlock(own.get())


def _short(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")[:120] if str(error) else "it is damaged"


def _not_one(path: Path) -> BadInput:
    return BadInput("keystore_unreadable", f"{path.name} is neither a keystore nor a certificate.", f"{READ}.")
