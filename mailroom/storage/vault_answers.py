"""What Key Vault answers: the parts of its JSON that we read, and what its refusals mean.

learn.microsoft.com/rest/api/keyvault
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from typing import Literal, TypeVar

import httpx
import msgspec

from mailroom.errors import AccountFault, VaultDown, VaultRefused
from mailroom.model.certificate import CertificateVersion, PublicCertificate
from mailroom.storage.fitness import LEAST_BITS

Kind = Literal["secret", "certificate", "key"]

AGAIN = frozenset({429, 500, 502, 503, 504})

T = TypeVar("T")


class Attributes(msgspec.Struct, frozen=True):
    """Times in seconds since the epoch; a certificate has them all."""

    enabled: bool = True
    created: int = 0
    nbf: int = 0
    exp: int | None = None


class Item(msgspec.Struct, frozen=True):
    """`managed`: the secret or key of a certificate, listed there already. `x5t`: a certificate's SHA-1 thumbprint, in base64url."""

    id: str
    attributes: Attributes
    managed: bool = False
    x5t: str = ""


class Page(msgspec.Struct, frozen=True):
    value: list[Item]
    next_link: str | None = msgspec.field(default=None, name="nextLink")


class Secret(msgspec.Struct, frozen=True):
    value: str


class _KeyProperties(msgspec.Struct, frozen=True):
    kty: str = "RSA"
    key_size: int | None = None


class _Policy(msgspec.Struct, frozen=True):
    key_props: _KeyProperties = _KeyProperties()


class Bundle(msgspec.Struct, frozen=True):
    """A certificate: `cer` is its DER, in base64. The policy, of the newest version only, says what its key is."""

    id: str
    cer: bytes
    attributes: Attributes
    policy: _Policy | None = None

    @property
    def is_fit(self) -> bool:
        key = (self.policy or _Policy()).key_props
        return key.kty in ("RSA", "RSA-HSM") and (key.key_size or LEAST_BITS) >= LEAST_BITS

    def certificate(self, name: str) -> PublicCertificate:
        return PublicCertificate(
            name,
            _last(self.id),
            self.cer,
            hashlib.sha1(self.cer, usedforsecurity=False).hexdigest(),
            hashlib.sha256(self.cer).hexdigest(),
            _time(self.attributes.nbf),
            _time(self.attributes.exp),
        )


class _Signature(msgspec.Struct, frozen=True):
    value: str


class _Inner(msgspec.Struct, frozen=True):
    code: str = ""


class _Error(msgspec.Struct, frozen=True):
    code: str = ""
    innererror: _Inner | None = None


class _Refusal(msgspec.Struct, frozen=True):
    error: _Error = _Error()


def refusal(kind: Kind, name: str, status: int, inner: str, *, role: str, wait: float | None = None) -> AccountFault:
    """`inner` is the code inside the error, which tells a disabled secret from a locked door."""
    what = f"{kind} {name!r}" if name else f"list of {kind}s"
    if status == 404:
        return VaultRefused(
            f"vault_{kind}_missing", f"There is no {what} in the vault.", "Create it under this name, or correct the name in accounts.toml."
        )
    if inner.endswith("Disabled"):
        return VaultRefused(f"vault_{kind}_disabled", f"The newest version of the {what} is disabled.", "Enable it, or set a new version.")
    if inner == "ObjectIsDeletedButRecoverable":
        step = f"Recover it (az keyvault {kind} recover), or take another name."
        return VaultRefused(f"vault_{kind}_deleted", f"The {what} was deleted, and its name is not free while it can be recovered.", step)
    if status in (401, 403):
        detail = f"The vault refused the {what} with {status} {inner}".rstrip() + "."
        if inner == "ForbiddenByFirewall":
            return VaultRefused("vault_forbidden", detail, "Let the app's network through the vault's firewall.")
        return VaultRefused(
            "vault_forbidden", detail, f"Give the app's identity the role {role!r} on the vault; a new role needs some minutes."
        )
    if status in AGAIN:
        return VaultDown("vault_down", f"The vault answered {status} for the {what}.", retry_after=wait)
    return VaultRefused("vault_refused", f"The vault answered {status} {inner} for the {what}.", "Check its name and MAILROOM_VAULT_URL.")


def decode(response: httpx.Response, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(response.content, type=kind)
    except msgspec.DecodeError as error:
        raise _unreadable() from error


def signature_in(response: httpx.Response) -> bytes:
    value = decode(response, _Signature).value
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise _unreadable() from error


def _unreadable() -> VaultDown:
    return VaultDown("vault_unreadable", "The vault's answer is not what Key Vault answers.", "Check MAILROOM_VAULT_URL.")


def inner_code(response: httpx.Response) -> str:
    try:
        error = msgspec.json.decode(response.content, type=_Refusal).error
    except msgspec.DecodeError:  # a proxy's or a gateway's page
        return ""
    return error.innererror.code if error.innererror else error.code


def version_in(item: Item) -> CertificateVersion:
    times = item.attributes
    return CertificateVersion(_last(item.id), _time(times.created), _time(times.nbf), _time(times.exp), times.enabled)


def name_of(item: Item) -> str:
    """An id is https://VAULT/secrets/NAME."""
    return item.id.rstrip("/").split("/")[4]


def _last(address: str) -> str:
    """An id with a version is https://VAULT/certificates/NAME/VERSION."""
    return address.rstrip("/").split("/")[-1]


def _time(seconds: int | None) -> datetime:
    return datetime.fromtimestamp(seconds or 0, UTC)
