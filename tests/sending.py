"""A sending room on fakes: real ledger, lanes, keys and outbox over a store in memory, a provider whose answers are scripted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mailroom.errors import (
    AccountFault,
    BadInput,
    DeliveryInDoubt,
    MailroomError,
    NotSent,
    ProviderError,
    Refused,
    StorageConflict,
    StorageDown,
    Throttled,
    TokenRejected,
)
from mailroom.model.account import AT_ONCE, Account, Cloud, Profile, Timing
from mailroom.model.message import Address, Message, Outgoing, Receipt
from mailroom.model.slice import Ref
from mailroom.model.token import Token
from mailroom.storage.keys import StoredKeys
from mailroom.storage.lanes import StoredLanes
from mailroom.storage.ledger import StoredLedger
from mailroom.storage.outbox import StoredOutbox, read_ticket
from send_mail.accept import Accept
from send_mail.deliver import Deliver, nonces
from send_mail.status import Status
from send_mail.sweep import Sweep
from send_mail.tickets import Tickets
from tests.fakes import FakeStore

CLOUD = Cloud("https://login", "https://graph/v1.0", "scope", "vault", "storage")
PROFILE = Profile("graph", "client_credentials", "tenant", "client", CLOUD, certificate="cert")


class Killed(BaseException):
    """The process is gone, in the middle of whatever it did."""


@dataclass
class Clock:
    time: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.time


@dataclass
class FakeProvider:
    """Takes mails into `copies`, by stamp. `script` holds what the next calls do; when it is empty all goes well."""

    clock: Clock
    timing: Timing
    script: list[str] = field(default_factory=list)
    copies: Counter[str] = field(default_factory=Counter)
    landing: list[tuple[float, str]] = field(default_factory=list)
    calls: int = 0
    questions: int = 0
    answers_questions: bool = True

    def check(self, message: Message) -> None:
        if len(message.text or "") > 1000:
            raise BadInput("mail_too_large_for_path", "Too large.")

    async def send(
        self, account: Account, mails: Sequence[Outgoing], token: Token, at_once: int = AT_ONCE
    ) -> list[Receipt | ProviderError]:
        self.calls += 1
        return [self._one(mail.stamp, self.script.pop(0) if self.script else "ok") for mail in mails]

    def _one(self, stamp: str, what: str) -> Receipt | ProviderError:
        match what:
            case "ok":
                self.copies[stamp] += 1
                return Receipt("sendMail")
            case "lost after":
                self.copies[stamp] += 1
                return DeliveryInDoubt("answer_lost", "Lost.")
            case "lost before":
                return DeliveryInDoubt("answer_lost", "Lost.")
            case "late":
                self.landing.append((self.clock() + 0.8 * self.timing.grace, stamp))
                return DeliveryInDoubt("answer_lost", "Lost.")
            case "429":
                return Throttled("throttled", "Slow down.", retry_after=5.0)
            case "503 after":
                self.copies[stamp] += 1
                wait = Throttled("throttled", "Unavailable.", retry_after=5.0)
                wait.vague = True
                return wait
            case "429 after":
                self.copies[stamp] += 1
                return Throttled("throttled", "Slow down.", retry_after=5.0)
            case "401":
                return TokenRejected("token_rejected", "No.")
            case "not sent":
                return NotSent("connection_refused", "Refused.", retry_after=3.0)
            case "refused":
                return Refused("recipient_invalid", "No such address.")
            case "killed before":
                raise Killed
            case "killed after":
                self.copies[stamp] += 1
                raise Killed
            case "killed, late":
                self.landing.append((self.clock() + self.timing.claim + 0.8 * self.timing.grace, stamp))
                raise Killed
        raise AssertionError(what)

    async def ask(self, account: Account, mails: Sequence[Outgoing], token: Token, at_once: int = AT_ONCE) -> list[Receipt | None]:
        self.questions += 1
        if not self.answers_questions:
            raise NotSent("provider_down", "Down.")
        return [Receipt("found") if self.copies[mail.stamp] else None for mail in mails]

    def land(self) -> None:
        due = [one for one in self.landing if one[0] <= self.clock()]
        for one in due:
            self.landing.remove(one)
            self.copies[one[1]] += 1


@dataclass
class FakeKeyring:
    barred: list[Token] = field(default_factory=list)
    fault: AccountFault | None = None
    made: int = 0

    async def token(self, account: Account) -> Token:
        if self.fault:
            raise self.fault
        return Token(f"token-{len(self.barred)}", 2e9)

    async def bar(self, account: Account, token: Token) -> None:
        self.barred.append(token)


class Mortal:
    """A store that kills whoever calls its n-th operation from now, before or after it took effect; workers take turns at each.

    With `error` it fails them instead: StorageConflict, after a write took effect, is what a repeat on the way to storage brings home.
    With `only` it counts the operations of that name alone.
    """

    def __init__(self, store: FakeStore) -> None:
        self.store = store
        self.dies_in: int | None = None
        self.after = False
        self.error: MailroomError | None = None
        self.only = ""

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.store, name)
        if name == "now":
            return real

        async def operation(*args: Any, **options: Any) -> Any:
            await asyncio.sleep(0)  # another worker's turn
            if self.dies_in is not None and self.only in ("", name):
                self.dies_in -= 1
                if self.dies_in < 0:
                    self.dies_in = None
                    if self.after:
                        await real(*args, **options)
                    raise self._end(name)
            return await real(*args, **options)

        return operation

    def _end(self, name: str) -> BaseException:
        if isinstance(self.error, StorageConflict) and name != "write":
            return StorageDown("storage_down", "Lost.")
        return self.error or Killed()


class Room:
    """One sending room, its store, its provider and clocks that only tests move: storage's, and the real time that a process measures."""

    def __init__(self, timing: Timing | None = None, **account: Any) -> None:
        self.timing = timing or Timing(claim=20.0, call=5.0, grace=10.0, give_up=86400.0, pause=5.0)
        self.clock, self.real = Clock(), Clock()
        self.fake = FakeStore(now=self.clock)
        self.store = Mortal(self.fake)
        self.provider = FakeProvider(self.real, self.timing)
        self.keyring = FakeKeyring()
        self.account = Account(
            **{"name": "billing", "provider": "graph", "address": "b@x.example", "profile": PROFILE, "rate": 60000.0} | account
        )
        self.start()

    def start(self, prefix: str = "p") -> None:
        """A new process: nothing of the last one's memory is left."""
        self.ledger, self.lanes = StoredLedger(self.store), StoredLanes(self.store)
        self.outbox, self.keys = StoredOutbox(self.store), StoredKeys(self.store)
        self.started = getattr(self, "started", 0) + 1
        self.deliver = Deliver(
            accounts={self.account.name: self.account},
            timing=self.timing,
            store=self.store,
            ledger=self.ledger,
            lanes=self.lanes,
            outbox=self.outbox,
            tickets=Tickets(self.store, self.ledger, self.outbox, self.real),
            keyring=self.keyring,
            sender_of=lambda account: self.provider,
            monotonic=self.real,
            new_nonce=nonces(f"{prefix}{self.started}x"),
        )
        self.accept = Accept(self.deliver, self.keys)
        self.status = Status(self.store, self.ledger, self.keys)
        self.sweep = Sweep(self.deliver)

    async def alive(self, work: Callable[[], Any]) -> Any:
        """Runs it; a kill ends the process, and a new one starts."""
        try:
            return await work()
        except Killed:
            self.start()
            return None

    def pass_time(self, seconds: float) -> None:
        self.clock.time += seconds
        self.real.time += seconds
        self.provider.land()

    async def work_off(self) -> int:
        """Every ticket that shows now, once, as the host would: deleted on success, back after a while on failure."""
        tickets = await self.fake.receive("mail-outbox", top=32, hide=30.0)
        for ticket in tickets:
            ref = read_ticket(ticket.body)
            assert ref is not None
            try:
                await self.deliver.work(ref)
            except Killed:
                self.start()
                continue
            await self.fake.delete_ticket("mail-outbox", ticket)
        return len(tickets)

    async def come_to_rest(self, hours: float = 2.0) -> None:
        """Time passes, tickets are worked off and the sweep runs, until nothing is owed."""
        until = self.clock() + hours * 3600
        while self.clock() < until:
            while await self.work_off():
                pass
            await self.sweep.run()
            if not await self.ledger.owed("billing", top=1):
                return
            self.pass_time(5.0)

    async def mail(self, unit: str) -> Any:
        slice_ = await self.ledger.read(Ref("billing", unit))
        return None if slice_ is None else slice_.mails[0]


def message(name: str | None = None, text: str = "Hello") -> Message:
    return Message(account="billing", id=name, to=(Address("ann@example.com"),), subject="Hi", text=text)


def run(work: Any) -> Any:
    return asyncio.run(work)
