"""The promises of sending: nothing lost, nothing sent twice, everything ends, whatever answers are lost and whoever is killed."""

import asyncio
import contextlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailroom.errors import AuthorityDown, MailroomError, StorageConflict, StorageDown
from mailroom.model.account import AT_ONCE, Account, Timing
from mailroom.model.message import Outgoing, Receipt
from mailroom.model.slice import OWED, Ref
from mailroom.model.token import Token
from send_mail.line import Line
from tests.sending import FakeProvider, Room, message, run

ANSWERS = ["ok", "lost after", "lost before", "late", "429", "429 after", "401", "not sent", "refused"]
KILLS = ["killed before", "killed after", "killed, late"]


async def post(room: Room, name: str = "m1") -> str:
    slice_ = await room.alive(lambda: room.accept.single(message(name), "crm", "hash"))
    return slice_.mails[0].status if slice_ else "killed"


def test_a_mail_is_sent_before_the_answer() -> None:
    """A mail over HTTP is with the provider when the caller gets its answer."""
    room = Room()
    assert run(post(room)) == "sent"
    assert sum(room.provider.copies.values()) == 1


def test_the_same_request_again_is_the_same_mail() -> None:
    """A caller who repeats a request because the answer was lost does not send the mail twice."""

    async def twice() -> None:
        assert [await post(room), await post(room)] == ["sent", "sent"]

    room = Room()
    run(twice())
    assert sum(room.provider.copies.values()) == 1


def test_a_lost_answer_is_asked_for_after_the_grace() -> None:
    """A mail whose answer was lost is not sent again when the provider has it."""

    async def lost() -> None:
        assert await post(room) == "in_doubt"
        assert room.provider.questions == 0
        await room.come_to_rest()

    room = Room()
    room.provider.script = ["lost after"]
    run(lost())
    assert room.provider.questions == 1
    assert list(room.provider.copies.values()) == [1]


class Asked(FakeProvider):
    """Keeps what it was asked for."""

    async def ask(self, account: Account, mails: Sequence[Outgoing], token: Token, at_once: int = AT_ONCE) -> list[Receipt | None]:
        self.mails = list(mails)
        return await super().ask(account, mails, token, at_once)


def test_a_question_says_since_when() -> None:
    """The provider hears when the mail was accepted: before that it can't have been sent, so no older mail has to be looked at."""

    async def lost() -> float:
        accepted = room.clock()
        await post(room)
        await room.come_to_rest()
        return accepted

    room = Room()
    room.provider = Asked(room.real, room.timing, script=["lost after"])
    accepted = run(lost())
    assert isinstance(room.provider, Asked)
    assert [mail.accepted for mail in room.provider.mails] == [accepted]


def test_what_the_provider_does_not_have_goes_again() -> None:
    """A mail whose request never landed is sent after the provider was asked."""

    async def lost() -> None:
        await post(room)
        await room.come_to_rest()

    room = Room()
    room.provider.script = ["lost before"]
    run(lost())
    assert (room.provider.questions, list(room.provider.copies.values())) == (1, [1])


def test_a_401_bars_the_token_and_goes_once_more() -> None:
    """A rejected token is barred, a new one fetched, and the mail sent with it in the same run."""
    room = Room()
    room.provider.script = ["401"]
    assert run(post(room)) == "sent"
    assert [token.value for token in room.keyring.barred] == ["token-0"]
    assert room.provider.calls == 2


def test_a_second_401_pauses_the_lane() -> None:
    """When the new token is rejected too it is the account's fault: the mail waits, it is not refused."""
    room = Room()
    room.provider.script = ["401", "401"]
    assert run(post(room)) == "pending"


def test_an_authority_that_is_down_keeps_mails_pending() -> None:
    """A mail accepted while no token can be had is sent when the authority is back."""

    async def down_then_up() -> None:
        room.keyring.fault = AuthorityDown("authority_down", "No answer.")
        assert await post(room) == "pending"
        room.keyring.fault = None
        await room.come_to_rest()

    room = Room()
    run(down_then_up())
    assert list(room.provider.copies.values()) == [1]


def test_a_mail_that_nobody_can_be_asked_about_is_held() -> None:
    """Without the right to read Sent Items an in-doubt mail waits for a person, and is not sent again."""

    async def lost() -> str:
        status = await post(room)
        await room.come_to_rest()
        return status

    room = Room(permissions=frozenset({"Mail.Send"}))
    room.provider.script = ["lost after"]
    assert run(lost()) == "held"
    assert list(room.provider.copies.values()) == [1]


def test_a_429_counts_as_not_sent_where_nobody_can_be_asked() -> None:
    """With Mail.Send alone a throttled mail goes again after Retry-After."""

    async def throttled() -> None:
        assert await post(room) == "pending"
        await room.come_to_rest()

    room = Room(permissions=frozenset({"Mail.Send"}))
    room.provider.script = ["429"]
    run(throttled())
    assert list(room.provider.copies.values()) == [1]


@pytest.mark.parametrize(("policy", "status", "copies"), [("hold", "held", 1), ("resend", "pending", 2)])
def test_a_503_proves_nothing_where_nobody_can_be_asked(policy: str, status: str, copies: int) -> None:
    """Mails were delivered in spite of one: the account's policy decides, and a held mail says what to do. The lane rests all the same."""

    async def unavailable() -> None:
        assert await post(room) == status
        assert (await room.lanes.look(room.account)).not_before > room.clock()
        found = await room.status.message("m1", "crm")
        assert policy == "resend" or (found["code"], "Sent Items" in found["next_step"]) == ("throttled", True)
        await room.come_to_rest()

    room = Room(permissions=frozenset({"Mail.Send"}), in_doubt=policy)
    room.provider.script = ["503 after"]
    run(unavailable())
    assert list(room.provider.copies.values()) == [copies]


def test_a_throttled_mailbox_pauses_its_lane() -> None:
    """After a 429 no other mail of that mailbox goes before Retry-After is over."""

    async def two() -> list[str]:
        return [await post(room, "a"), await post(room, "b")]

    room = Room()
    room.provider.script = ["429"]
    assert run(two()) == ["in_doubt", "pending"]
    assert room.provider.calls == 1


def test_a_purged_queue_loses_nothing() -> None:
    """Tickets are only nudges: without any of them the sweep finds what is owed."""

    async def purged() -> None:
        room.provider.script = ["not sent"]
        await post(room)
        for ticket in await room.fake.receive("mail-outbox"):
            await room.fake.delete_ticket("mail-outbox", ticket)
        await room.come_to_rest()

    room = Room()
    run(purged())
    assert list(room.provider.copies.values()) == [1]


def test_a_mail_gives_up_after_its_time() -> None:
    """What could not be sent for the time allowed is refused as expired, not tried for ever."""

    async def never() -> str:
        room.keyring.fault = AuthorityDown("authority_down", "No answer.")
        await post(room)
        await room.come_to_rest(hours=1.0)
        return (await room.status.message("m1", "crm"))["code"]

    room = Room(Timing(claim=20.0, call=5.0, grace=10.0, give_up=600.0, pause=5.0))
    assert run(never()) == "expired"


killing = st.one_of(st.none(), st.tuples(st.integers(0, 14), st.booleans()))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([*ANSWERS, *KILLS]), max_size=6),
    st.lists(killing, min_size=1, max_size=4),
    st.lists(st.floats(0, 40), max_size=4),
)
def test_nothing_is_lost_and_nothing_is_sent_twice(script: list[str], kills: list[tuple[int, bool] | None], pauses: list[float]) -> None:
    """Whatever answers are lost and wherever the process is killed: one copy at most, and every accepted mail ends."""

    async def story() -> None:
        for at, kill in enumerate(kills):
            room.store.dies_in, room.store.after = kill or (None, False)
            await asyncio.gather(post(room, f"m{at}"), post(room, f"m{at}"), room.alive(room.work_off))
            room.pass_time(pauses[at] if at < len(pauses) else 1.0)
            await stray_ticket(room, f"m{at}")
            await asyncio.gather(room.alive(room.work_off), room.alive(room.work_off), room.alive(room.sweep.run))
        room.store.dies_in = None
        await room.come_to_rest()
        for at in range(len(kills)):  # a caller whose connection broke repeats the request
            await post(room, f"m{at}")
        await room.come_to_rest()
        views = [await room.status.message(f"m{at}", "crm") for at in range(len(kills))]
        for view in views:
            copies = room.provider.copies[(await stamps(room, view["id"]))]
            assert view["status"] not in OWED
            assert copies == (1 if view["status"] == "sent" else 0), view
        assert max(room.provider.copies.values(), default=0) <= 1

    room = Room()
    room.provider.script = script
    run(story())


async def stray_ticket(room: Room, name: str) -> None:
    """The queue delivers at least once: a ticket may come back whenever it likes."""
    entry = await room.alive(lambda: room.keys.find("id", "crm", name))
    if entry is not None:
        await room.alive(lambda: room.outbox.nudge(Ref("billing", entry.unit), 0.0))


async def stamps(room: Room, name: str) -> str:
    entry = await room.keys.find("id", "crm", name)
    assert entry is not None
    return f"{entry.unit}.0.0"


def test_a_worker_that_froze_takes_nothing_back() -> None:
    """Who wakes after its claim has run out, and finds that it may not send any more, does not undo what was sent meanwhile."""

    async def frozen() -> None:
        real = room.keyring.token

        async def token(account: Account) -> Token:
            room.keyring.token = real  # type: ignore[method-assign]
            room.pass_time(60.0)
            await room.sweep.run()
            await room.come_to_rest()
            return await real(account)

        room.keyring.token = token  # type: ignore[method-assign]
        await post(room)
        await room.come_to_rest()

    room = Room()
    run(frozen())
    assert list(room.provider.copies.values()) == [1]


@pytest.mark.parametrize("write", range(6))
@pytest.mark.parametrize("error", [StorageConflict("storage_conflict", "412, though ours won."), StorageDown("storage_down", "No answer.")])
def test_a_write_whose_answer_is_lost_holds_nothing_up(write: int, error: MailroomError) -> None:
    """Whichever write took effect though its answer, or that of its repeat, said otherwise: the mails go at once, and once."""

    async def one_lost() -> None:
        made = await room.accept.batch([Line(1, message()), Line(2, message())], [], "crm", "hash")
        room.store.only, room.store.dies_in, room.store.error, room.store.after = "write", write, error, True
        with contextlib.suppress(StorageDown):
            await room.deliver.work(Ref("billing", made.id))
        room.store.dies_in = None
        for _ in range(2 if isinstance(error, StorageConflict) else 25):  # a permit that nobody knows of ends with its claim
            await room.work_off()
            room.pass_time(1.0)
        assert (await room.status.batch(made.id, "crm"))["counts"]["sent"] == 2

    room = Room()
    run(one_lost())
    assert list(room.provider.copies.values()) == [1, 1]


@pytest.mark.parametrize("error", [StorageConflict("storage_conflict", "409, though ours won."), StorageDown("storage_down", "No answer.")])
def test_an_accepting_write_whose_answer_is_lost_is_no_reason_to_wait(error: MailroomError) -> None:
    """A single mail whose row was written is sent at once, whatever its writer was told."""

    async def lost() -> list[str]:
        statuses = []
        for call in range(8):
            room.store.dies_in, room.store.error, room.store.after = call, error, True
            with contextlib.suppress(StorageDown):
                await room.accept.single(message(f"m{call}"), "crm", "hash")
            room.store.dies_in = None
            statuses.append(await post(room, f"m{call}"))
        return statuses

    room = Room()
    assert run(lost()) == ["sent"] * 8
    assert list(room.provider.copies.values()) == [1] * 8


def test_a_clock_that_jumps_back_changes_nothing() -> None:
    """What is claimed stays claimed, what is in doubt is asked for no sooner, and all of it ends."""

    async def back() -> None:
        room.provider.script = ["late", "killed, late", "not sent"]
        for name in ("a", "b", "c"):
            await room.alive(lambda name=name: room.accept.single(message(name), "crm", "hash"))
            room.clock.time -= 1800.0
            await room.work_off()
            await room.sweep.run()
        await room.come_to_rest()

    room = Room()
    run(back())
    assert sorted(room.provider.copies.values()) == [1, 1, 1]


def test_a_ticket_whose_body_is_gone_ends() -> None:
    """A mail without a body is refused with the reason; one that may have gone is held."""

    async def gone() -> list[tuple[str, str]]:
        refs = []
        for name, answer in (("a", "not sent"), ("b", "lost after")):
            room.provider.script = [answer]
            refs.append((await room.accept.single(message(name), "crm", "hash")).ref)
            await room.fake.delete_blob("mail-outbox", f"billing/{refs[-1].unit}/00000")
            room.pass_time(3.0)
        await room.come_to_rest()
        mails = [await room.mail(ref.unit) for ref in refs]
        return [(mail.status, mail.code) for mail in mails]

    room = Room()
    assert run(gone()) == [("refused", "body_missing"), ("held", "body_missing")]
