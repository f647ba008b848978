"""What a file holds of keys and certificates, whatever its format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes


class WrongPassword(ValueError):
    """It does not open what it was to open. The formats can't always tell that from damage."""


@dataclass(frozen=True, slots=True, repr=False)
class Entry:
    """A private key by its alias; `chain` begins with the key's own certificate. `unlock` raises WrongPassword, or ValueError for damage.

    `by_store`: the password of the whole file opens the key, so none of its own is asked for.
    """

    alias: str
    chain: tuple[x509.Certificate, ...]
    unlock: Callable[[str], PrivateKeyTypes]
    by_store: bool = True


@dataclass(frozen=True, slots=True, repr=False)
class Contents:
    """`trusted` are certificates without a private key, by alias; None for one that can't be read. `password` opened the file."""

    entries: tuple[Entry, ...] = ()
    trusted: tuple[tuple[str, x509.Certificate | None], ...] = ()
    password: str = ""
