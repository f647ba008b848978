"""What Key Vault answers: the parts of its JSON that we read, and what its refusals mean.

learn.microsoft.com/rest/api/keyvault
"""

from __future__ import annotations

from typing import Literal, TypeVar

import httpx
import msgspec

from mailroom.errors import AccountFault, VaultDown, VaultRefused

Kind = Literal["secret", "certificate"]

AGAIN = frozenset({429, 500, 502, 503, 504})

T = TypeVar("T")


class Attributes(msgspec.Struct, frozen=True):
    enabled: bool = True
    exp: int | None = None


class Item(msgspec.Struct, frozen=True):
    """`managed`: the secret or key of a certificate, listed there already."""

    id: str
    attributes: Attributes
    managed: bool = False


class Page(msgspec.Struct, frozen=True):
    value: list[Item]
    next_link: str | None = msgspec.field(default=None, name="nextLink")


class Secret(msgspec.Struct, frozen=True):
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
        raise VaultDown("vault_unreadable", "The vault's answer is not what Key Vault answers.", "Check MAILROOM_VAULT_URL.") from error


def inner_code(response: httpx.Response) -> str:
    try:
        error = msgspec.json.decode(response.content, type=_Refusal).error
    except msgspec.DecodeError:  # a proxy's or a gateway's page
        return ""
    return error.innererror.code if error.innererror else error.code


def name_of(item: Item) -> str:
    """An id is https://VAULT/secrets/NAME."""
    return item.id.rstrip("/").split("/")[4]
