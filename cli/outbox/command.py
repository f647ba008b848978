"""`mailroom outbox`: what its arguments ask for, on the storage that the functions use."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from cli.outbox import text
from cli.outbox.mails import Found, Mails
from cli.outbox.poison import Letter, Poison
from cli.progress import Progress
from mailroom import wiring
from mailroom.errors import BadInput, NotFound
from mailroom.model import decisions
from mailroom.model.account import Account, Timing
from mailroom.model.decisions import Decision
from mailroom.model.matter import Matter
from mailroom.model.slice import Mail, Slice
from mailroom.storage.outbox import StoredOutbox

WAITING = frozenset({"held", "in_doubt"})
SHOWN = 500  # mails from one look of the bar to the next
WHO = "a person"  # at a terminal, whose name says nothing


async def run(given: argparse.Namespace) -> int:
    """Raises BadSettings and what the outbox raises."""
    async with wiring.client():
        timing, store = wiring.settings().timing, wiring.store()
        mails = Mails(store, wiring.ledger(), timing.grace)
        progress = Progress(sys.stderr, columns=lambda: shutil.get_terminal_size().columns, quiet=True)
        outbox = Outbox(mails, Poison(store), wiring.outbox(), wiring.settings().accounts, timing, progress, _say)
        match given.way:
            case "list":
                await outbox.list_all(given.account, every=given.every)
            case "show":
                await outbox.show(given.id, given.account)
            case "requeue":
                await outbox.each(given.id, lambda name: outbox.requeue(name, given.account, given.instead))
            case "drop":
                await outbox.each(given.id, lambda name: outbox.drop(name, given.account))
            case "resolve":
                await outbox.resolve(given.id, given.account, given.decision)
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


@dataclass(frozen=True, slots=True)
class Outbox:
    """`accounts` are those of accounts.toml; `say` prints a line where the bar stood."""

    mails: Mails
    poison: Poison
    bodies: StoredOutbox
    accounts: Mapping[str, Account]
    timing: Timing
    progress: Progress
    print_line: Callable[[str], None]

    def say(self, line: str) -> None:
        self.progress.clear()
        self.print_line(line)

    async def each(self, names: Sequence[str], work: Callable[[str], Awaitable[None]]) -> None:
        """One after the other; the bar tells how many are done, and goes at the end, whatever that is."""
        try:
            for done, name in enumerate(names):
                if len(names) > 1:
                    self.progress.show(done, len(names), name)
                await work(name)
        finally:
            self.progress.clear()

    async def list_all(self, account: str | None, *, every: bool = False) -> None:
        waiting = 0
        known = await self.mails.accounts()
        if account and account not in {*known, *self.accounts}:
            raise NotFound("account_unknown", f"There is no account {account!r}.", f"Known are {', '.join({*known, *self.accounts})}.")
        names = [account] if account else known
        for at, name in enumerate(names):
            waiting += await self._list(name, (at, len(names)), every=every)
        letters = await self.poison.letters() if account is None else []
        for line in text.poison(letters) if letters else ():
            self.say(line)
        for detail in self.mails.newer:
            self.say(f"not read: {detail}")
        self.say(f"{waiting + len(letters)} wait for a person." if waiting or letters else "Nothing waits for a person.")

    async def _list(self, account: str, place: tuple[int, int], *, every: bool) -> int:
        counts: Counter[str] = Counter()
        shown: list[str] = []
        async for found in self.mails.of(account):
            counts[found.mail.status] += 1
            if counts.total() % SHOWN == 0:
                self.progress.show(*place, f"{account}: {counts.total()} mails read")
            if found.mail.status in WAITING or (every and found.mail.status != "sent"):
                shown += text.line(found)
        self.say(text.account(account, counts))
        for line in shown:
            self.say(line)
        return counts["held"]

    async def show(self, name: str, account: str | None) -> None:
        found = await self._find(name, account)
        if isinstance(found, Letter):
            self.say(text.joined(text.letter(found)))
            return
        bodies = await self.bodies.get(found.slice_.ref)
        self.say(text.joined(text.mail(found, bodies[found.at] if bodies else None)))

    async def requeue(self, name: str, account: str | None, instead: bytes | None = None) -> None:
        found = await self._find(name, account)
        if isinstance(found, Letter):
            await self.poison.put_back(found, instead)
            self.say(f"{found.id}: on the queue again")
            return
        if instead is not None:
            raise BadInput("argument_unfit", f"{name} is a mail in the ledger, whose body stays as it is.", "Send a corrected one anew.")
        mail = await self._change(found, decisions.requeued)
        self.say(f"{mail.id}: {'asked for first, then it goes' if mail.status == 'in_doubt' else 'goes'} within a minute or two")

    async def drop(self, name: str, account: str | None) -> None:
        found = await self._find(name, account)
        if isinstance(found, Letter):
            await self.poison.drop(found)
            self.say(f"{found.id}: deleted")
            return
        mail = await self._change(found, decisions.dropped)
        self.say(f"{mail.id}: cancelled" + (f" ({mail.next_step.rstrip('.').lower()})" if mail.next_step else ""))

    async def resolve(self, name: str, account: str | None, decision: Decision) -> None:
        found = await self.mails.find(name, account)
        mail = await self._change(found, lambda matter: decisions.resolved(matter, decision, WHO))
        self.say(f"{mail.id}: {'goes within a minute or two' if mail.status == 'pending' else mail.status}")

    async def _find(self, name: str, account: str | None) -> Found | Letter:
        letter = await self.poison.find(name) if account is None else None
        return letter or await self.mails.find(name, account)

    async def _change(self, found: Found, decide: Callable[[Matter], Slice]) -> Mail:
        """By its stamp, which no other mail has."""
        return await self.mails.change(found.mail.stamp, found.slice_.ref.account, lambda one: decide(self._matter(one)), self._keep)

    def _matter(self, found: Found) -> Matter:
        return Matter(found.slice_, found.at, self.accounts.get(found.slice_.ref.account), self.timing, self._now())

    async def _keep(self, found: Found) -> None:
        """Before it is owed again: its body must be there, and its batch for as long. Raises Conflict."""
        ref = found.slice_.ref
        body = await self.bodies.get(ref) is not None
        batch = await self.mails.ledger.batch(ref.unit) if found.slice_.batch else None
        decisions.check_there(found.mail, batch, body=body)
        if batch is not None:
            await self.mails.ledger.mark_batch(batch.id, created=max(batch.created, self._now()))

    def _now(self) -> float:
        return self.mails.store.now()
