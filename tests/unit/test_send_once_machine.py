"""The protocol as a machine that anything may happen to, in any order: what was accepted ends, and is sent once at most."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mailroom.errors import AuthorityDown, MailroomError, StorageConflict, StorageDown
from mailroom.model.places import LEDGER_TABLE, OUTBOX_CONTAINER, OUTBOX_POISON, OUTBOX_QUEUE
from mailroom.model.slice import Ref
from send_mail.line import Line
from tests.freezing import ROOMY, another, frosty
from tests.sending import Killed, Room, message

ANSWERS = ["ok", "lost after", "lost before", "late", "429", "429 after", "503 after", "401", "not sent", "refused"]
KILLS = ["killed before", "killed after", "killed, late"]
ENDS: dict[str, MailroomError | None] = {
    "killed": None,
    "down": StorageDown("storage_down", "No answer."),
    "lost to oneself": StorageConflict("storage_conflict", "412, though the first try won."),
}
SINGLES, BATCHES = ["m0", "m1", "m2"], ["b0", "b1"]
BATCH = 3  # mails
FROZEN = st.sampled_from([21.0, 31.0, 70.0])  # seconds: longer than a claim, than claim and grace, than all of it
SCRIPT = st.lists(st.sampled_from(ANSWERS + KILLS), max_size=3)
NEWER = {"priority": 3}  # a field of a mail that only a later version knows

THINGS = ["the_queue_is_purged", "a_ticket_comes_back", "a_ticket_is_poisoned", "a_body_is_gone", "a_newer_version_writes"]
THINGS += ["a_newer_version_runs_again", "questions_get_an_answer_or_none", "tokens_are_to_be_had_or_not"]

Work = Callable[[], Awaitable[Any]]


class Sending(RuleBasedStateMachine):
    """Two processes at most at a time; `asked` are the callers' requests, which are repeated in the end by whoever got no answer."""

    permissions = frozenset({"Mail.Send", "Mail.Read"})
    untold = frozenset[str]()  # answers that are taken for what they may not be, and documented as such

    def __init__(self) -> None:
        super().__init__()
        self.room = Room(traits=ROOMY, permissions=self.permissions)
        self.store = frosty(self.room, self.world_goes_on)
        self.frozen_for = 0.0
        self.asked: set[str] = set()

    @rule(names=st.lists(st.sampled_from(SINGLES + BATCHES), min_size=1, max_size=2), answers=SCRIPT)
    def somebody_asks(self, names: list[str], answers: list[str]) -> None:
        self.will_answer(answers)
        self.asked |= set(names)
        self.run(*(lambda name=name: self.ask(name) for name in names))

    @rule(workers=st.integers(1, 2), answers=SCRIPT)
    def tickets_are_worked_off(self, workers: int, answers: list[str]) -> None:
        self.will_answer(answers)
        self.run(*[self.room.work_off] * workers)

    @rule(at=st.integers(0, 4), answers=SCRIPT)
    def two_processes_get_the_same_ticket(self, at: int, answers: list[str]) -> None:
        self.will_answer(answers)
        if refs := self.owed():
            other, ref = another(self.room), refs[at % len(refs)]
            self.run(lambda: self.room.deliver.work(ref), lambda: other.deliver.work(ref))

    @rule(name=st.sampled_from(["a ticket", *SINGLES, *BATCHES]), calls=st.integers(0, 8), seconds=FROZEN, answers=SCRIPT)
    def a_worker_freezes(self, name: str, calls: int, seconds: float, answers: list[str]) -> None:
        """At some step; and it wakes when others have long gone on."""
        self.store.freezes_in, self.frozen_for = calls, seconds
        if name != "a ticket":
            self.somebody_asks([name], answers)
        elif refs := self.owed():
            self.will_answer(answers)
            self.run(lambda: self.room.deliver.work(refs[calls % len(refs)]))
        self.store.freezes_in = None

    @rule()
    def the_sweep_runs(self) -> None:
        self.run(self.room.sweep.run, self.room.work_off)

    @rule(calls=st.integers(0, 14), how=st.sampled_from(list(ENDS)), after=st.booleans())
    def a_storage_call_will_fail(self, calls: int, how: str, after: bool) -> None:
        store = self.store
        store.dies_in, store.error, store.after = calls, ENDS[how], after or how == "lost to oneself"

    @rule(seconds=st.sampled_from([0.5, 3.0, 11.0, 21.0, 35.0]))
    def time_passes(self, seconds: float) -> None:
        self.room.pass_time(seconds)

    @rule(seconds=st.sampled_from([1.0, 30.0, 3600.0]))
    def the_clock_jumps_back(self, seconds: float) -> None:
        """Storage's, that is: what a process measures goes on."""
        self.room.clock.time -= seconds

    @rule(what=st.sampled_from(THINGS), at=st.integers(0, 4))
    def something_happens(self, what: str, at: int) -> None:
        """To the slice of that number, where it is about one."""
        refs = self.refs()
        getattr(self, what)(refs[at % len(refs)] if refs else None)

    def the_queue_is_purged(self, _: Ref | None) -> None:
        self.room.fake.queues.pop(OUTBOX_QUEUE, None)

    def a_ticket_comes_back(self, ref: Ref | None, queue: str = OUTBOX_QUEUE) -> None:
        """The queue delivers at least once."""
        if ref:
            asyncio.run(self.room.fake.put_ticket(queue, msgspec.json.encode({"ticket": ref})))

    def a_ticket_is_poisoned(self, ref: Ref | None) -> None:
        """Five kills do that to one that never failed."""
        self.a_ticket_comes_back(ref, OUTBOX_POISON)

    def a_body_is_gone(self, ref: Ref | None) -> None:
        if ref:
            self.room.fake.blobs.pop((OUTBOX_CONTAINER, f"{ref.account}/{ref.unit}/{ref.slice:05}"), None)

    def a_newer_version_writes(self, ref: Ref | None) -> None:
        if ref:
            self.rewrite(ref, lambda mail: mail | NEWER)

    def a_newer_version_runs_again(self, _: Ref | None = None) -> None:
        for ref in self.refs():
            self.rewrite(ref, lambda mail: {name: value for name, value in mail.items() if name not in NEWER})

    def questions_get_an_answer_or_none(self, _: Ref | None) -> None:
        self.room.provider.answers_questions = not self.room.provider.answers_questions

    def tokens_are_to_be_had_or_not(self, _: Ref | None) -> None:
        self.room.keyring.fault = None if self.room.keyring.fault else AuthorityDown("authority_down", "No answer.")

    @invariant()
    def nothing_is_sent_twice(self) -> None:
        assert max(self.room.provider.copies.values(), default=0) <= 1

    def teardown(self) -> None:
        """All is well again, callers who got no answer repeat themselves, and enough time passes."""
        self.room.provider.script.clear()
        self.room.provider.answers_questions, self.room.keyring.fault = True, None
        self.store.dies_in = self.store.freezes_in = None
        self.a_newer_version_runs_again()
        asyncio.run(self.room.come_to_rest(hours=8.0))
        self.run(*(lambda name=name: self.ask(name) for name in sorted(self.asked)))
        asyncio.run(self.room.come_to_rest(hours=8.0))
        self.nothing_is_sent_twice()
        for mail in self.mails():
            copies = self.room.provider.copies[mail["stamp"]]
            assert mail.get("status") in ("sent", "refused", "held"), mail
            assert mail["status"] == "held" or (mail["status"] == "sent") == (copies == 1), mail
        assert len(self.mails()) == sum(BATCH if name in BATCHES else 1 for name in self.asked)

    async def ask(self, name: str) -> None:
        accept = self.room.accept
        if name in SINGLES:
            await accept.single(message(name), "crm", name)
        else:
            await accept.batch([Line(number, message()) for number in range(1, BATCH + 1)], [], "crm", name, key=name)

    def will_answer(self, answers: list[str]) -> None:
        """What the provider does with the next mails; whatever was planned before and did not happen is forgotten."""
        self.room.provider.script = [answer for answer in answers if answer not in self.untold]

    def run(self, *works: Work) -> None:
        """At once, each as the host would run it."""

        async def all_of_them() -> None:
            await asyncio.gather(*map(self.as_the_host, works))

        asyncio.run(all_of_them())

    async def as_the_host(self, work: Work) -> None:
        """What it raises is its own affair, and a kill ends the process."""
        try:
            await work()
        except Killed:
            self.room.start()
        except MailroomError:
            pass

    async def world_goes_on(self) -> None:
        """While a worker is frozen: time passes, every ticket is delivered to somebody else, and the sweep runs."""
        self.room.pass_time(self.frozen_for)
        other = another(self.room)
        for ref in self.refs():
            await self.as_the_host(lambda ref=ref: other.deliver.work(ref))
        await self.as_the_host(other.sweep.run)

    def refs(self) -> list[Ref]:
        keys = [key.split("|") for _, key in self.room.fake.tables.get(LEDGER_TABLE, {}) if key.startswith("s|")]
        return [Ref("billing", unit, int(number)) for _, unit, number in keys]

    def owed(self) -> list[Ref]:
        """Those with a marker first, which are the ones that tickets are for."""
        table = self.room.fake.tables.get(LEDGER_TABLE, {})
        marked = {tuple(key.split("|")[2:]) for _, key in table if key.startswith("o|")}
        return [ref for ref in self.refs() if (ref.unit, f"{ref.slice:05}") in marked]

    def mails(self) -> list[dict[str, Any]]:
        """Of what was accepted."""
        table = self.room.fake.tables.get(LEDGER_TABLE, {})
        committed = {partition.partition("|")[2] for partition, key in table if key == "header"}
        counted = [
            row for (_, key), row in table.items() if key.startswith("s|") and (not row.values["batch"] or key.split("|")[1] in committed)
        ]
        return [mail for row in counted for mail in json.loads(str(row.values["mails"]))]

    def rewrite(self, ref: Ref, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        table = self.room.fake.tables[LEDGER_TABLE]
        row = table[ref.account, f"s|{ref.unit}|{ref.slice:05}"]
        mails = json.dumps([change(mail) for mail in json.loads(str(row.values["mails"]))])
        if mails != json.dumps(json.loads(str(row.values["mails"]))):
            etag = f'W/"newer {len(self.room.fake.calls)}"'
            table[ref.account, row.key] = msgspec.structs.replace(row, values={**row.values, "mails": mails}, etag=etag)


class SendingUnasked(Sending):
    """Nobody can be asked, so what may have been sent is held: the promises are the same, but for a 429, which counts as not sent."""

    permissions = frozenset({"Mail.Send"})
    untold = frozenset({"429 after"})


TestSending = Sending.TestCase
TestSending.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestSendingUnasked = SendingUnasked.TestCase
TestSendingUnasked.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
