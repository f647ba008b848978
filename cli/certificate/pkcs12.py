"""PKCS #12 (.pfx, .p12, and since Java 9 most .jks): all its private keys by alias, where cryptography alone gives but the first.

RFC 7292. cryptography checks the password and decrypts certificates and keys; the bags in which the keys lie are found here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key, pkcs12

from cli.certificate.entry import Contents, Entry, WrongPassword
from cli.certificate.fitness import public_key
from cli.certificate.reading import BMP, EXPLICIT_0, INTEGER, OCTETS, OID, SEQUENCE, SET, Value, value

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

DATA = bytes.fromhex("2a864886f70d010701")  # 1.2.840.113549.1.7.1
KEY_BAG = bytes.fromhex("2a864886f70d010c0a0101")  # 1.2.840.113549.1.12.10.1.1
SHROUDED_KEY_BAG = bytes.fromhex("2a864886f70d010c0a0102")
FRIENDLY_NAME = bytes.fromhex("2a864886f70d010914")  # 1.2.840.113549.1.9.20


class _Bag(NamedTuple):
    """`content` is PKCS #8, under `shrouded` with a password."""

    alias: str
    content: bytes
    shrouded: bool


def is_pkcs12(data: bytes) -> bool:
    """A SEQUENCE that begins with its version, 3. Windows may leave the lengths open, so no more is looked at."""
    return data[:1] == b"\x30" and b"\x02\x01\x03\x30" in data[:12]


def contents(data: bytes, password: str) -> Contents:
    """Raises WrongPassword, which may be damage as well."""
    secret = password.encode()
    try:
        found = pkcs12.load_pkcs12(data, secret or None)
    except ValueError as error:
        raise WrongPassword("cryptography cannot open it") from error
    certificates = [*([found.cert] if found.cert else []), *found.additional_certs]
    bags = _found(data)
    if len(bags) > 1:
        keys = [(bag.alias or str(number), _key(bag, secret)) for number, bag in enumerate(bags, 1)]
    else:  # the usual one; or its bags lie encrypted together with its certificates, or its lengths are open
        keys = [(_name(found.cert) or "1", found.key)] if found.key else []
    return gathered(keys, [(_name(one), one.certificate) for one in certificates])


def gathered(keys: list[tuple[str, PrivateKeyTypes]], certificates: list[tuple[str, x509.Certificate]]) -> Contents:
    """Each key with its chain; what is in no chain is only trusted."""
    known = [certificate for _, certificate in certificates]
    entries = tuple(_entry(alias, key, known) for alias, key in keys)
    chained = [certificate for entry in entries for certificate in entry.chain]
    return Contents(entries, tuple((name, one) for name, one in certificates if one not in chained))


def _entry(alias: str, key: PrivateKeyTypes, known: list[x509.Certificate]) -> Entry:
    return Entry(alias, _chain(key, known), lambda _password: key)


def _chain(key: PrivateKeyTypes, known: list[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """The key's own certificate, then each one's issuer as far as it is there."""
    public = key.public_key()
    chain = [one for one in known if public_key(one) == public][:1]
    while chain and chain[-1].issuer != chain[-1].subject:
        above = [one for one in known if one.subject == chain[-1].issuer and one not in chain]
        if not above:
            break
        chain.append(above[0])
    return tuple(chain)


def _found(data: bytes) -> list[_Bag]:
    try:
        return list(_bags(data))
    except ValueError:  # no DER, as older Windows writes it
        return []


def _key(bag: _Bag, secret: bytes) -> PrivateKeyTypes:
    if bag.shrouded and not secret:
        raise ValueError("it has several keys and an empty password; give it another with keytool -storepasswd")
    try:
        return load_der_private_key(bag.content, secret if bag.shrouded else None)
    except TypeError as error:
        raise ValueError("a key is not locked as its bag says") from error


def _bags(data: bytes) -> Iterator[_Bag]:
    version, content, *_mac = value(data).of(SEQUENCE).members()
    version.of(INTEGER)
    for info in value(_data(content)).of(SEQUENCE).members():
        of_info, *_ = info.of(SEQUENCE).members()
        if of_info.of(OID).content != DATA:
            continue
        for bag in value(_data(info)).of(SEQUENCE).members():
            kind, inside, *attributes = bag.of(SEQUENCE).members()
            if kind.content in (KEY_BAG, SHROUDED_KEY_BAG):
                yield _Bag(_friendly(attributes), inside.of(EXPLICIT_0).content, kind.content == SHROUDED_KEY_BAG)


def _data(info: Value) -> bytes:
    """What a ContentInfo of the type `data` holds."""
    kind, content = info.of(SEQUENCE).members()
    if kind.of(OID).content != DATA:
        raise ValueError("it is signed, where it should be protected by a password")
    return value(content.of(EXPLICIT_0).content).of(OCTETS).content


def _friendly(attributes: list[Value]) -> str:
    for attribute in attributes[0].of(SET).members() if attributes else []:
        kind, named = attribute.of(SEQUENCE).members()
        if kind.content == FRIENDLY_NAME:
            name, *_ = named.of(SET).members()
            return name.of(BMP).content.decode("utf-16-be")
    return ""


def _name(found: pkcs12.PKCS12Certificate | None) -> str:
    return (found.friendly_name or b"").decode("utf-8", "replace") if found else ""
