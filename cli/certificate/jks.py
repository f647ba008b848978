"""Java's own keystores, JKS and JCEKS, read without Java.

The layout is that of OpenJDK's sun.security.provider.JavaKeyStore and com.sun.crypto.provider.JceKeyStore: entries, then a digest that the
store's password keys. Each private key is locked once more by a password of its own, which often is the store's.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import partial
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key

from cli.certificate.entry import Contents, Entry, WrongPassword
from cli.certificate.java_objects import Stream
from cli.certificate.reading import OCTETS, OID, SEQUENCE, Cursor, Value, value

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

JKS, JCEKS = 0xFEEDFEED, 0xCECECECE
KEY, CERTIFICATE, SECRET = 1, 2, 3
WHITENER = b"Mighty Aphrodite"
DIGEST = 20
JKS_PROTECTION = bytes.fromhex("2b060104012a02110101")  # 1.3.6.1.4.1.42.2.17.1.1
JCEKS_PROTECTION = bytes.fromhex("2b060104012a021301")  # 1.3.6.1.4.1.42.2.19.1, PBEWithMD5AndTripleDES
MOST_ROUNDS = 5_000_000  # Java's own limit


def is_jks(data: bytes) -> bool:
    return data[:4] in (JKS.to_bytes(4), JCEKS.to_bytes(4))


def contents(data: bytes, password: str) -> Contents:
    """Raises WrongPassword for the store's, ValueError for what is cut off or no keystore."""
    body, digest = data[:-DIGEST], data[-DIGEST:]
    if not hmac.compare_digest(_sha1(_utf16(password) + WHITENER + body), digest):
        raise WrongPassword("the digest is another")
    cursor = Cursor(body, 4)
    version = cursor.number(4)
    if version not in (1, 2):
        raise ValueError(f"version {version} of the format is unknown")
    entries: list[Entry] = []
    trusted: list[tuple[str, x509.Certificate | None]] = []
    for _ in range(cursor.number(4)):
        tag, alias, _created = cursor.number(4), cursor.text(), cursor.take(8)
        if tag == KEY:
            locked = cursor.sized(4)
            chain = tuple(x509.load_der_x509_certificate(_encoded(cursor, version)) for _ in range(cursor.number(4)))
            entries.append(Entry(alias, chain, partial(_unlocked, locked), by_store=False))
        elif tag == CERTIFICATE:
            trusted.append((alias, _readable(_encoded(cursor, version))))
        elif tag == SECRET:
            Stream(cursor).skip()
        else:
            raise ValueError(f"an entry of kind {tag} is unknown")
    return Contents(tuple(entries), tuple(trusted), password)


def _readable(der: bytes) -> x509.Certificate | None:
    """Among those that somebody trusts may be old ones that break the rules; the keys beside them are none the worse."""
    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion):
        return None


def _encoded(cursor: Cursor, version: int) -> bytes:
    if version == 2 and (kind := cursor.text()) != "X.509":
        raise ValueError(f"a certificate of type {kind!r}")
    return cursor.sized(4)


def _unlocked(locked: bytes, password: str) -> PrivateKeyTypes:
    """An EncryptedPrivateKeyInfo (RFC 5208, 6), by one of Sun's two ways to lock it. Both tell a wrong password."""
    algorithm, encrypted = value(locked).of(SEQUENCE).members()
    oid, parameters = algorithm.of(SEQUENCE).members()
    if oid.of(OID).content == JKS_PROTECTION:
        plain = _by_keystream(encrypted.of(OCTETS).content, _utf16(password))
    elif oid.content == JCEKS_PROTECTION:
        plain = _by_triple_des(encrypted.of(OCTETS).content, parameters, password)
    else:
        raise ValueError("the key is locked in a way that is unknown")
    try:
        return load_der_private_key(plain, None)
    except TypeError as error:
        raise ValueError("the key is locked once more") from error


def _by_keystream(sealed: bytes, password: bytes) -> bytes:
    """sun.security.provider.KeyProtector: salt, key xor a chain of SHA-1, and a digest of the key itself."""
    salt, masked, check = sealed[:DIGEST], sealed[DIGEST:-DIGEST], sealed[-DIGEST:]
    stream, link = bytearray(), salt
    while len(stream) < len(masked):
        link = _sha1(password + link)
        stream += link
    plain = bytes(a ^ b for a, b in zip(masked, stream, strict=False))
    if not hmac.compare_digest(_sha1(password + plain), check):
        raise WrongPassword("the key's digest is another")
    return plain


def _by_triple_des(sealed: bytes, parameters: Value, password: str) -> bytes:
    """com.sun.crypto.provider.KeyProtector: PBES1 with MD5, a half of the salt for each half of the material."""
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
    from cryptography.hazmat.primitives.ciphers import Cipher, modes
    from cryptography.hazmat.primitives.padding import PKCS7

    salt, rounds = (part.content for part in parameters.of(SEQUENCE).members())
    if len(salt) != 8 or not 0 < int.from_bytes(rounds) <= MOST_ROUNDS:
        raise ValueError("the salt or the count of rounds is out of bounds")
    if not password.isascii():
        raise WrongPassword("Java takes ASCII alone for such a key")
    material = _stretched(salt, int.from_bytes(rounds), password.encode())
    if len(sealed) % 8:
        raise ValueError("the key is cut off")
    decryptor = Cipher(TripleDES(material[:24]), modes.CBC(material[24:])).decryptor()
    unpadder = PKCS7(64).unpadder()
    try:
        plain = unpadder.update(decryptor.update(sealed) + decryptor.finalize()) + unpadder.finalize()
        value(plain).of(SEQUENCE)
    except ValueError as error:
        raise WrongPassword("the padding, or what is in it, is none") from error
    return plain


def _stretched(salt: bytes, rounds: int, password: bytes) -> bytes:
    first, second = salt[:4], salt[4:]
    if first == second:  # Java means to turn the first half round, and forgets its last byte
        first = bytes((first[3], first[0], first[1], first[3]))
    material = b""
    for half in (first, second):
        for _ in range(rounds):
            half = hashlib.md5(half + password, usedforsecurity=False).digest()
        material += half
    return material


def _utf16(password: str) -> bytes:
    return password.encode("utf-16-be", "surrogatepass")


def _sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()
