"""Where the contracts of providers are tried: towns behind one Protocol, with mailboxes, a sandbox over TLS, and what goes wrong there.

What arrived is read from the sandbox's own mailboxes, never through the provider. Where two providers' promises truly differ, a town says
so in its Manner.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from mailroom import http
from mailroom.errors import ProviderError
from mailroom.model.account import Account
from mailroom.model.message import Address, Message, Outgoing
from mailroom.model.token import Token
from sandbox.faults import Faults
from tests.contract import sandbox_google
from tests.fakes import FakeStore

ANNA, BEN = sandbox_google.ANNA, sandbox_google.BEN


@dataclass(frozen=True)
class Wrong:
    """One thing that goes wrong, as a fault of the sandbox. `pause` is how many seconds to wait, as the caller is told."""

    fault: Mapping[str, Any]
    pause: float | None = None

    @property
    def taken(self) -> Wrong:
        """The same answer, though the mail was taken."""
        return replace(self, fault={**self.fault, "after_accepting": True})


@dataclass(frozen=True)
class Manner:
    """What truly differs between providers. `wrongs` are by name.

    `rejected` is what an account hears whose token is no good, or, where there are none, whose sign-in is missed; `unfit` is the code of a
    recipient that can be nobody's address.
    """

    wrongs: Mapping[str, tuple[Wrong, ...]]
    rejected: tuple[type[ProviderError], str]
    unfit: str


WRONGS = ("turned away", "throttled", "throttled though taken", "unclear", "unclear though taken", "cut", "cut though taken")


def wrongs(
    away: Wrong, throttled: tuple[Wrong, ...], unclear: tuple[Wrong, ...], cut: tuple[Wrong, ...], lost: Wrong
) -> Mapping[str, tuple[Wrong, ...]]:
    """By the names in WRONGS. `cut` before the mail was taken, `lost` is the same behind its end."""
    taken = [tuple(one.taken for one in ones) for ones in (throttled, unclear, (lost,))]
    return dict(zip(WRONGS, ((away,), throttled, taken[0], unclear, taken[1], cut, taken[2]), strict=True))


class Town(Protocol):
    """Anna sends; what she sends to Ben is in his inbox at once. Providers are built as wiring builds them, and closed with the town."""

    manner: Manner
    faults: Faults
    store: FakeStore

    def account(self, address: str = ANNA, host: str = "") -> Account:
        """`host` is somewhere else."""
        ...

    def token(self, address: str = ANNA) -> Token: ...

    def turn_away(self, token: Token) -> None:
        """From now on this token is no good; where there are none, a sign-in is missed."""
        ...

    def inbox(self, address: str = BEN) -> list[bytes]:
        """Its mails in MIME, as they lie in the mailbox."""
        ...

    def copies(self) -> dict[str, int]:
        """How often a mail with each stamp was taken."""
        ...

    def provider(self) -> Any: ...

    def strangers(self) -> AbstractAsyncContextManager[list[tuple[Account, Any]]]:
        """Accounts, each with a provider that does not know who signed the sandbox's certificate."""
        ...


class ReadTown(Town, Protocol):
    """One whose provider is an Inbox, too. `service` is what its faults are for."""

    service: str

    def forget(self) -> None:
        """Every cursor that was handed out."""
        ...


def mail(stamp: str, **fields: Any) -> Outgoing:
    return Outgoing(stamp, Message("billing", **{"to": (Address(BEN, "Ben"),), "subject": f"About {stamp}", "text": "Hello"} | fields))


@contextmanager
def trusting(bundle: Path | None) -> Iterator[None]:
    """As on a machine that trusts these authorities; with None, only those that it knows by itself."""
    try:
        with pytest.MonkeyPatch.context() as machine:
            machine.delenv("SSL_CERT_FILE", raising=False)
            if bundle:
                machine.setenv("SSL_CERT_FILE", str(bundle))
            http.tls.cache_clear()
            yield
    finally:
        http.tls.cache_clear()
