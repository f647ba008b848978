"""One mail, two doors: what is decided over HTTP and at a terminal comes out the same, whatever the mail has been through."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, get_args

import msgspec
import pytest

from cli.outbox.command import WHO
from mailroom.errors import Conflict, MailroomError
from mailroom.model.batch import Batch
from mailroom.model.decisions import DECISIONS, FINAL, Decision, requeued, retried
from mailroom.model.matter import Matter, may_have_been_sent
from mailroom.model.slice import Mail, Ref, Slice, Status
from send_mail.decide import Decide
from send_mail.line import Line
from tests.sending import Room, message
from tests.unit.test_cli_outbox import Desk

HOUR = 3600.0
NOW = 1_700_000_000.0 + 2 * HOUR
TOLD = {"code": "answer_lost", "detail": "Lost.", "next_step": "Look."}
STATES: dict[str, dict[str, Any]] = {
    "pending": {"status": "pending"},
    "pending, tried": {"status": "pending", "attempt": 1, "code": "connection_refused"},
    "pending, to be asked for": {"status": "pending", "attempt": 1, "doubt_since": NOW - HOUR},
    "sending": {"status": "sending", "attempt": 1},
    "sending, by the dead": {"status": "sending", "attempt": 1},
    "sent": {"status": "sent", "attempt": 1},
    "refused": {"status": "refused", "attempt": 1, "code": "recipient_invalid"},
    "refused twice": {"status": "refused", "attempt": 2, "code": "recipient_invalid", "retried": True},
    "refused, in doubt before": {"status": "refused", "attempt": 1, "code": "expired", "doubt_since": NOW - HOUR},
    "refused, begun anew": {"status": "refused", "attempt": 1, "code": "expired", "doubt_since": NOW - 3 * HOUR},
    "refused, without a body": {"status": "refused", "attempt": 1, "code": "body_missing"},
    "refused by a person": {"status": "refused", "attempt": 1, "code": "resolved"},
    "in doubt since now": {"status": "in_doubt", "attempt": 1, "doubt_since": NOW - 1, **TOLD},
    "in doubt": {"status": "in_doubt", "attempt": 1, "doubt_since": NOW - HOUR, **TOLD},
    "held, never tried": {"status": "held", "code": "tickets_died"},
    "held as not sent": {"status": "held", "attempt": 1, "code": "account_removed"},
    "held": {"status": "held", "attempt": 1, **TOLD},
    "held, in doubt before": {"status": "held", "attempt": 1, "code": "tickets_died", "doubt_since": NOW - HOUR},
    "held, begun anew": {"status": "held", "attempt": 1, "code": "tickets_died", "doubt_since": NOW - 3 * HOUR},
    "cancelled": {"status": "cancelled", "attempt": 1},
}
# What comes of a decision where nothing else is in its way: a status, or why not. Pending is what goes, in_doubt what is asked for first.
EXPECTED = {
    # decided as             sent         resend       refused      again                  never
    "pending":                  ("not_held",  "not_held",  "not_held",  "status_wrong",        "cancelled"),
    "pending, tried":           ("not_held",  "not_held",  "not_held",  "status_wrong",        "cancelled"),
    "pending, to be asked for": ("not_held",  "not_held",  "not_held",  "status_wrong",        "cancelled"),
    "sending":                  ("not_held",  "not_held",  "not_held",  "status_wrong",        "status_wrong"),
    "sending, by the dead":     ("sent", "may_have_been_sent", "refused", "status_wrong",      "cancelled"),
    "sent":                     ("not_held",  "not_held",  "not_held",  "status_wrong",        "status_wrong"),
    "refused":                  ("not_held",  "not_held",  "not_held",  "pending",             "status_wrong"),
    "refused twice":            ("not_held",  "not_held",  "not_held",  "pending",             "status_wrong"),
    "refused, in doubt before": ("not_held",  "not_held",  "not_held",  "in_doubt",            "status_wrong"),
    "refused, begun anew":      ("not_held",  "not_held",  "not_held",  "may_have_been_sent",  "status_wrong"),
    "refused, without a body":  ("not_held",  "not_held",  "not_held",  "pending",             "status_wrong"),
    "refused by a person":      ("not_held",  "not_held",  "not_held",  "status_wrong",        "status_wrong"),
    "in doubt since now":       ("sent", "may_have_been_sent", "refused", "status_wrong",      "cancelled"),
    "in doubt":                 ("sent",      "pending",   "refused",   "status_wrong",        "cancelled"),
    "held, never tried":        ("sent",      "pending",   "refused",   "pending",             "cancelled"),
    "held as not sent":         ("sent",      "pending",   "refused",   "pending",             "cancelled"),
    "held":                     ("sent",      "pending",   "refused",   "in_doubt",            "cancelled"),
    "held, in doubt before":    ("sent",      "pending",   "refused",   "in_doubt",            "cancelled"),
    "held, begun anew":         ("sent",      "pending",   "refused",   "may_have_been_sent",  "cancelled"),
    "cancelled":                ("not_held",  "not_held",  "not_held",  "status_wrong",        "status_wrong"),
}  # fmt: skip
ASKED = ("sent", "resend", "refused", "again", "never")
CASES = (
    "plain",
    "not to be asked",
    "account gone",
    "account that receives alone",
    "old",
    "old, and not alone",
    "batch cancelled",
    "body gone",
)
DAYS_OLD = {"old", "old, and not alone"}
CLAIMS = {"sending": NOW + 10, "sending, by the dead": NOW - 1}

Outcome = str | Slice


class Door:
    """A room of its own with that mail in that case, which nobody else is at work on."""

    batch: Batch

    def __init__(self, state: str, case: str) -> None:
        account: dict[str, Any] = {"permissions": frozenset({"Mail.Send"})} if case == "not to be asked" else {}
        self.desk = Desk(**account, send=case != "account that receives alone")
        self.room = self.desk.room
        self.state, self.case = state, case

    async def open(self) -> Door:
        lines = [Line(1, message("m1")), Line(2, message("m2"))][: 2 if self.case == "old, and not alone" else 1]
        self.room.clock.time = NOW - (72 if self.case in DAYS_OLD else 2) * HOUR
        self.batch = await self.room.accept.batch(lines, [], "crm", "hash")
        self.room.clock.time = NOW
        [found] = await self.room.ledger.slices(self.batch)
        await self.room.ledger.amend([(found, self._lived_through(found))])
        await self._hindered()
        return self

    def _lived_through(self, found: Slice) -> Slice:
        first = msgspec.structs.replace(found.mails[0], **STATES[self.state])
        until = CLAIMS.get(self.state, 0.0)
        return msgspec.structs.replace(found, mails=(first, *found.mails[1:]), claim="somebody" if until else "", claim_until=until)

    async def _hindered(self) -> None:
        if self.case == "batch cancelled":
            await self.room.ledger.mark_batch(self.batch.id, cancelled=True)
        if self.case == "body gone":
            await self.room.fake.delete_blob("mail-outbox", f"billing/{self.batch.id}/00000")
        if self.case == "account gone":
            self.room.deliver.accounts.pop("billing")  # type: ignore[attr-defined]  # the room's own dictionary

    async def slice(self) -> Slice:
        [found] = await self.room.ledger.slices(self.batch)
        return msgspec.structs.replace(found, etag="", ref=Ref("billing", "the batch"), mails=tuple(map(_unnamed, found.mails)))

    async def by_terminal(self, asked: str) -> Outcome:
        outbox = self.desk.outbox
        if asked == "again":
            return await self._outcome(outbox.requeue("m1", None))
        if asked == "never":
            return await self._outcome(outbox.drop("m1", None))
        return await self._outcome(outbox.resolve("m1", None, decision(asked)))

    async def by_http(self, asked: str) -> Outcome:
        decide, ref = Decide(self.room.deliver), Ref("billing", self.batch.id)
        if asked == "again":
            batch = await self.room.ledger.batch(self.batch.id)
            assert batch is not None
            return await self._outcome(decide.retry(batch))
        if asked == "never":
            return await self._outcome(decide.cancel(self.batch))
        return await self._outcome(decide.resolve(ref, 0, decision(asked), WHO))

    async def _outcome(self, work: Awaitable[Any]) -> Outcome:
        """Why not, and then nothing was changed; or the slice as it is by then."""
        before = dict(self.room.fake.tables["MailLedger"])
        try:
            await work
        except MailroomError as error:
            assert self.room.fake.tables["MailLedger"] == before
            return error.code
        return await self.slice()


def decision(asked: str) -> Decision:
    return next(one for one in DECISIONS if one == asked)


def _unnamed(mail: Mail) -> Mail:
    """Stamps are of their rooms."""
    return msgspec.structs.replace(mail, stamp="")


def told(outcome: Outcome) -> str:
    return outcome if isinstance(outcome, str) else outcome.mails[0].status


def test_every_status_is_decided_of() -> None:
    """A status that is new to the ledger has to be thought of here."""
    assert {mail["status"] for mail in STATES.values()} == set(get_args(Status))
    assert EXPECTED.keys() == STATES.keys()


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("asked", ASKED)
async def test_what_comes_of_a_decision(state: str, asked: str) -> None:
    """Of a mail that nothing else hinders, named by its id."""
    door = await Door(state, "plain").open()
    assert told(await door.by_terminal(asked)) == EXPECTED[state][ASKED.index(asked)]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("asked", DECISIONS)
async def test_a_mail_is_resolved_alike_at_both_doors(state: str, asked: str) -> None:
    """To the last field of its slice, or refused with the same code; whatever else is in its way."""
    for case in CASES:
        terminal, http = await Door(state, case).open(), await Door(state, case).open()
        assert (case, await http.by_http(asked)) == (case, await terminal.by_terminal(asked))


@pytest.mark.parametrize("state", STATES)
async def test_a_batch_tries_again_what_may_be_requeued(state: str) -> None:
    """A refused mail's second try is the same at both doors; what can't have one, or has had it, the batch leaves as it is."""
    for case in CASES:
        terminal, http = await Door(state, case).open(), await Door(state, case).open()
        before, requeued, retried = await http.slice(), await terminal.by_terminal("again"), await http.by_http("again")
        mail = before.mails[0]
        if case == "batch cancelled":
            assert retried == "batch_cancelled"
        elif mail.status != "refused" or mail.retried or mail.code in FINAL:
            assert (case, retried) == (case, before)
        elif case != "body gone":  # a retry reads no bodies: who sends finds it gone
            assert (case, retried) == (case, before if isinstance(requeued, str) else requeued)


# What is in the way of which mail, once it shall go again: as it is told to who requeues it, and to who says `resend`.
HINDERED = [
    ("not to be asked", "held as not sent", "pending", "pending"),
    ("not to be asked", "held, in doubt before", "may_have_been_sent", "pending"),
    ("account gone", "held as not sent", "account_unknown", "account_unknown"),
    ("account that receives alone", "held as not sent", "account_unknown", "account_unknown"),
    ("old", "held as not sent", "pending", "pending"),
    ("old", "held, in doubt before", "mail_expired", "pending"),
    ("old", "refused, in doubt before", "in_doubt", "not_held"),
    ("old, and not alone", "held as not sent", "mail_expired", "mail_expired"),
    ("batch cancelled", "held as not sent", "batch_cancelled", "batch_cancelled"),
    ("body gone", "held as not sent", "body_missing", "body_missing"),
]


@pytest.mark.parametrize(("case", "state", "again", "resend"), HINDERED)
async def test_what_hinders_a_mail_is_told(case: str, state: str, again: str, resend: str) -> None:
    """Instead of a mail that is owed, and ended at once."""
    assert told(await (await Door(state, case).open()).by_terminal("again")) == again
    assert told(await (await Door(state, case).open()).by_http("resend")) == resend


@pytest.mark.parametrize(("asked", "state"), [("resend", "held"), ("again", "refused")])
async def test_a_batch_is_kept_for_as_long_as_what_is_owed_of_it(asked: str, state: str) -> None:
    """Its header counts as young as its youngest mail, whichever door that came by."""
    for by in (Door.by_terminal, Door.by_http):
        door = await Door(state, "old").open()
        assert door.batch.created < NOW
        await by(door, asked)
        batch = await door.room.ledger.batch(door.batch.id)
        assert batch is not None
        assert batch.created == NOW


@pytest.mark.parametrize("state", STATES)
async def test_a_batch_cancels_what_surely_did_not_go(state: str) -> None:
    """As who drops it. What may have gone is asked for first, which a person at a terminal need not wait for."""
    terminal, http = await Door(state, "plain").open(), await Door(state, "plain").open()
    before, dropped, cancelled = await http.slice(), await terminal.by_terminal("never"), await http.by_http("never")
    mail = before.mails[0]
    if mail.status == "pending" and not may_have_been_sent(mail):
        assert told(cancelled) == told(dropped) == "cancelled"
    else:
        assert cancelled == before


async def test_a_question_is_asked_since_the_doubt() -> None:
    """Two mails of a slice may have been sent, of an account that can't be asked. One is sent again, and the slice begins anew.

    Once the account can be asked, the other's question would look at too short a time: so it is none.
    """
    room = Room(permissions=frozenset({"Mail.Send"}))
    room.provider.script = ["lost after", "lost after"]
    batch = await room.accept.batch([Line(1, message("m1")), Line(2, message("m2"))], [], "crm", "hash")
    await room.come_to_rest()
    room.pass_time(HOUR)
    [before] = await room.ledger.slices(batch)
    await Decide(room.deliver).resolve(before.ref, 0, "resend", "ops")
    await room.come_to_rest()
    [found] = await room.ledger.slices(batch)
    assert [mail.status for mail in found.mails] == ["sent", "held"]
    assert found.created > before.created
    askable = msgspec.structs.replace(room.account, permissions=frozenset({"Mail.Send", "Mail.Read"}))
    with pytest.raises(Conflict, match=r"may_have_been_sent.* resolve m2 sent"):
        requeued(Matter(found, 1, askable, room.timing, room.clock()))
    ended = found.with_mails(msgspec.structs.replace(mail, status="refused") for mail in found.mails)
    with pytest.raises(Conflict, match="send it as a new mail"):  # nobody resolves what is refused
        requeued(Matter(ended, 1, askable, room.timing, room.clock()))
    one_alone = msgspec.structs.replace(before, mails=before.mails[1:])
    asked = requeued(Matter(one_alone, 0, askable, room.timing, room.clock()))
    assert (asked.mails[0].status, asked.created) == ("in_doubt", before.created)
    assert asked.mails[0].due == room.clock() + room.timing.grace  # nobody knows since when it may be on its way


def test_what_is_asked_for_goes_before_what_begins_anew() -> None:
    """Of one slice, both refused: the question keeps its time, and what is too old to go beside it waits for the next retry."""
    room = Room()
    plain = Mail("m1", status="refused", attempt=1, code="recipient_invalid")
    doubted = Mail("m2", status="refused", attempt=1, code="expired", doubt_since=NOW - 71 * HOUR)
    old = Slice(Ref("billing", "b1"), "crm", (plain, doubted), created=NOW - 72 * HOUR, batch=True)
    once = retried(old, room.account, room.timing, NOW)
    assert ([mail.status for mail in once.mails], once.created) == (["refused", "in_doubt"], old.created)
    found = once.with_mails([once.mails[0], msgspec.structs.replace(once.mails[1], status="sent", doubt_since=None)])
    twice = retried(found, room.account, room.timing, NOW)
    assert ([mail.status for mail in twice.mails], twice.created) == (["pending", "sent"], NOW)
