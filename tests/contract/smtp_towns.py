"""The sandbox's SMTP as towns (towns.py): Exchange, which wants a token, and a connector, which knows its clients without one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mailroom.errors import NotSent, TokenRejected, VaultRefused
from mailroom.model.account import Account, Cloud, Profile
from mailroom.model.certificate import Certificate
from mailroom.model.token import NO_TOKEN, Token
from mailroom.providers import relay, smtp
from sandbox import smtp as sandbox_smtp
from sandbox.ca import Ca
from sandbox.directory import OUTLOOK, App, Directory
from sandbox.faults import Faults
from sandbox.graph import create
from sandbox.graph.post import PostOffice
from sandbox.smtp import Listening
from sandbox.town import town
from tests.contract import sandbox_town
from tests.contract.http_towns import READ_TOWNS
from tests.contract.towns import ANNA, BEN, Manner, Town, Wrong, trusting, wrongs
from tests.fakes import FakeParts, FakeStore

ROLE = "SMTP.SendAsApp"


def at(step: str, answer: str, pause: float | None = None) -> Wrong:
    return Wrong({"service": "smtp", "path": step, "answer": answer}, pause)


THROTTLED = (at("end", "452 4.7.0 Message rate limit exceeded", 60.0), at("end", "421 4.3.2 Service not available", 10.0))
UNCLEAR = (at("end", "garbage"), at("end", "354 Go on"))
CUT = (at("data", "cut"), at("end", "cut"))  # in the middle of the content, and behind it
BAD_TOKEN = at("auth", "535 5.7.3 Authentication unsuccessful")
NO_SIGN_IN = at("mail", "530 5.7.57 Client not authenticated to send mail")


@dataclass
class Certificates:
    """ports.Certificates in memory. `asked` counts how often."""

    known: dict[str, Certificate] = field(default_factory=dict)
    asked: int = 0

    async def certificate(self, name: str) -> Certificate:
        self.asked += 1
        if name not in self.known:
            raise VaultRefused("vault_certificate_missing", f"There is no certificate {name!r} in the vault.", "Import it.")
        return self.known[name]


def certified(made: sandbox_town.Certificate) -> Certificate:
    now = datetime.now(UTC)
    return Certificate(made.key_pem.encode(), made.pem.encode(), made.thumbprint, "", now, now + timedelta(days=9), "1")


@dataclass
class SmtpTown:
    directory: Directory
    faults: Faults
    office: PostOffice
    server: Listening
    store: FakeStore = field(default_factory=FakeStore)
    built: list[Any] = field(default_factory=list)

    manner = Manner(
        wrongs(BAD_TOKEN, THROTTLED, UNCLEAR, CUT, lost=at("end", "cut")),
        rejected=(TokenRejected, "token_rejected"),
        unfit="recipient_refused",
    )

    def account(self, address: str = ANNA, host: str = "") -> Account:
        cloud = Cloud("https://login.example", "graph", "scope", "vault", "storage", smtp=host or f"localhost:{self.server.port}")
        profile = Profile("office", "client_credentials", self.directory.tenant, "c", cloud)
        return Account("billing", "smtp", address, profile, permissions=frozenset(), traits=smtp.TRAITS)

    def token(self, address: str = ANNA) -> Token:
        return Token(self.directory.issue(self.directory.app("mailer").client_id, OUTLOOK, [ROLE]), 2e9)

    def turn_away(self, token: Token) -> None:
        self.directory.revoke(token.value)

    def inbox(self, address: str = BEN) -> list[bytes]:
        """As they came over the wire: this server adds nothing, and takes nothing out."""
        return [item.mime or b"" for item in self.office.mailbox(address).folder("inbox").items.values()]

    def copies(self) -> dict[str, int]:
        return {row.stamp: row.copies for row in self.office.sent.values()}

    def provider(self) -> Any:
        self.built.append(smtp.build(FakeParts(store=self.store)))
        return self.built[-1]

    @asynccontextmanager
    async def strangers(self) -> AsyncIterator[list[tuple[Account, Any]]]:
        with trusting(None):
            yield [(self.account(), self.provider())]

    def close(self) -> None:
        for one in self.built:
            one.close()


@dataclass
class RelayTown(SmtpTown):
    certificates: Certificates = field(default_factory=Certificates)

    manner = Manner(
        wrongs(NO_SIGN_IN, THROTTLED, UNCLEAR, CUT, lost=at("end", "cut")),
        rejected=(NotSent, "sign_in_required"),
        unfit="recipient_refused",
    )

    def account(self, address: str = ANNA, host: str = "", **options: str) -> Account:
        cloud = Cloud("https://login.example", "graph", "scope", "vault", "storage")
        given = {"host": host or f"localhost:{self.server.port}"} | options
        profile = Profile("", "none", "", "", cloud)
        return Account("billing", "relay", address, profile, permissions=frozenset(), traits=relay.TRAITS, options=tuple(given.items()))

    def token(self, address: str = ANNA) -> Token:
        return NO_TOKEN

    def turn_away(self, token: Token) -> None:
        self.faults.add(dict(NO_SIGN_IN.fault))

    def provider(self) -> Any:
        self.built.append(relay.build(FakeParts(store=self.store, certificates=self.certificates)))
        return self.built[-1]

    @asynccontextmanager
    async def strangers(self) -> AsyncIterator[list[tuple[Account, Any]]]:
        """Also one that shows a certificate of its own, whose TLS is made another way."""
        self.certificates.known["ours"] = certified(sandbox_town.certificate())
        with trusting(None):
            yield [(account, self.provider()) for account in (self.account(), self.account(client_certificate="ours"))]


@asynccontextmanager
async def smtp_town(folder: Path) -> AsyncIterator[SmtpTown]:
    async with _served(folder, SmtpTown, signs_in=True) as made:
        made.directory.authority = "https://login.example"
        made.directory.register(App("mailer", app_roles={OUTLOOK: [ROLE]}, exchange={ANNA: {"FullAccess"}}))
        yield made


@asynccontextmanager
async def relay_town(folder: Path) -> AsyncIterator[RelayTown]:
    async with _served(folder, RelayTown, signs_in=False) as made:
        yield made


@asynccontextmanager
async def _served(folder: Path, kind: type[Any], *, signs_in: bool) -> AsyncIterator[Any]:
    directory, ca, faults = town((ANNA, BEN)), Ca.create(folder), Faults()
    office = create(directory, faults).office
    server = await sandbox_smtp.serve(directory, faults, office, ca, signs_in=signs_in)
    made = kind(directory, faults, office, server)
    try:
        with trusting(ca.bundle):
            yield made
    finally:
        faults.clear()
        made.close()
        await server.stop()


SEND_TOWNS: dict[str, Callable[[Path], AbstractAsyncContextManager[Town]]] = {**READ_TOWNS, "smtp": smtp_town, "relay": relay_town}
