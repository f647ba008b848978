"""A service account's key as Google hands it out: a JSON file, or the older .p12 (PKCS #12).

cloud.google.com/iam/docs/keys-create-delete. A .p12 names neither the account nor the key; its password is `notasecret` unless changed.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec

from mailroom.errors import VaultRefused

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

P12_PASSWORD = "notasecret"  # noqa: S105  # Google's, for every .p12 key
LEAST_BITS = 2048
_NEW = "Make a new key of the service account and set the whole file as the secret: JSON as it is, a .p12 in base64."


@dataclass(frozen=True, slots=True)
class ServiceAccountKey:
    """`id` is Google's name for the key, "" where the file tells none."""

    email: str
    key: RSAPrivateKey = field(repr=False)
    id: str = ""

    def sign(self, data: bytes) -> bytes:
        """RS256 (RFC 7518, 3.3)."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        return self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())

    def is_same(self, other: ServiceAccountKey) -> bool:
        return self.key.public_key() == other.key.public_key()


class _File(msgspec.Struct, frozen=True):
    type: str = ""
    client_email: str = ""
    private_key: str = ""
    private_key_id: str = ""


def opened(name: str, text: str, *, email: str = "", password: str | None = None, alias: str = "") -> ServiceAccountKey:
    """What the vault's secret of that name holds, once it is fit to sign with. Raises VaultRefused."""
    found = _from_json(name, text) if text.lstrip().startswith("{") else _from_p12(name, text, password, alias)
    if email and found.email and email != found.email:
        detail = f"The secret {name!r} is a key of {found.email}, not of {email}."
        raise VaultRefused("google_key_of_another", detail, "Leave `service_account` out, or set the right key.")
    if not (found.email or email):
        detail = f"The secret {name!r} is a .p12 key, which does not say whose it is."
        raise VaultRefused("google_account_missing", detail, "Name the account's e-mail address as the profile's `service_account`.")
    return replace(found, email=found.email or email)


def _from_json(name: str, text: str) -> ServiceAccountKey:
    try:
        file = msgspec.json.decode(text, type=_File)
    except msgspec.DecodeError:
        raise _unreadable(name, "is no JSON that can be read") from None  # the error's own text may quote the key
    if file.type != "service_account" or not file.client_email:
        raise _unreadable(name, f"is JSON of type {file.type!r}, no service account's key")
    return ServiceAccountKey(file.client_email, _fit(name, _from_pem(name, file.private_key)), file.private_key_id)


def _from_p12(name: str, text: str, password: str | None, alias: str) -> ServiceAccountKey:
    from cryptography.hazmat.primitives.serialization import pkcs12

    try:
        content = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise _unreadable(name, "is neither JSON nor base64") from None
    try:
        found = pkcs12.load_pkcs12(content, (password or P12_PASSWORD).encode())
    except ValueError as error:
        detail = f"The .p12 in the secret {name!r} does not open with {'this' if password else 'its usual'} password."
        raise VaultRefused(
            "google_p12_password", detail, "Set its password in the vault and name that secret as the profile's `password_secret`."
        ) from error
    named = (found.cert.friendly_name or b"").decode("utf-8", "replace") if found.cert else ""
    if alias and alias != named:
        detail = f"The .p12 in the secret {name!r} has the alias {named!r}, not {alias!r}."
        raise VaultRefused("google_p12_alias", detail, "Correct or leave out the profile's `alias`.")
    if found.key is None:
        raise _unreadable(name, "is a .p12 without a private key")
    return ServiceAccountKey("", _fit(name, found.key))


def _from_pem(name: str, pem: str) -> PrivateKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _unreadable(name, "holds no private key that can be read") from None


def _fit(name: str, key: PrivateKeyTypes) -> RSAPrivateKey:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    if not isinstance(key, RSAPrivateKey) or key.key_size < LEAST_BITS:
        detail = f"The secret {name!r} has no RSA key of {LEAST_BITS} bits or more."
        raise VaultRefused("google_key_unfit", detail, _NEW)
    return key


def _unreadable(name: str, what: str) -> VaultRefused:
    return VaultRefused("google_key_unreadable", f"The secret {name!r} {what}.", _NEW)
