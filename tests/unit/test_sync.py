"""The receiving room on fakes: every new mail is stored and announced, whatever dies in between, and nothing else is."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mailroom.errors import NotSent, ProviderError, Refused, StorageConflict, Throttled, TokenRejected, VaultDown
from mailroom.model.account import Account
from mailroom.model.lane import Permit
from mailroom.model.page import Arrival, Page
from mailroom.model.token import Token
from mailroom.ports import CursorLost
from mailroom.storage.cursors import StoredCursors
from mailroom.storage.inbox import StoredInbox
from mailroom.storage.lanes import StoredLanes
from receive_mail.sync import DAY, Sync
from tests.fakes import FakeStore
from tests.sending import PROFILE, Clock, FakeKeyring, Killed, Mortal

PAGE = 3
TURN = 180.0


@dataclass
class FakeMailbox:
    """A folder as delta queries see it: a log of what appeared or changed. A link is a place in that log."""

    clock: Clock
    log: list[str] = field(default_factory=list)
    received: dict[str, float] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    unreadable: set[str] = field(default_factory=set)
    forgotten: bool = False
    faults: list[ProviderError] = field(default_factory=list)
    sizes: list[bool] = field(default_factory=list)
    horizons: set[float] = field(default_factory=set)
    calls: int = 0
    dies_in: int | None = None
    each: Callable[[], Awaitable[None]] | None = None

    def deliver(self, name: str, received: float | None = None) -> None:
        self.received[name] = self.clock() if received is None else received
        self.log.append(name)

    def change(self, name: str) -> None:
        self.log.append(name)

    async def page(self, account: Account, link: str | None, token: Token, *, ids_only: bool = False, since: float = 0.0) -> Page:
        await self._step()
        self.sizes.append(ids_only)
        self.horizons.add(since)
        if link and self.forgotten:
            self.forgotten = False
            raise CursorLost("410")
        at = int(link or 0)
        names = self.log[at : at + PAGE]
        arrivals = [Arrival(name, datetime.fromtimestamp(self.received[name], UTC)) for name in names if name not in self.gone]
        return Page(tuple(arrivals), str(at + len(names)), last=at + PAGE >= len(self.log))

    async def mime(self, account: Account, message_id: str, token: Token) -> bytes | None:
        await self._step()
        if message_id in self.unreadable:
            raise Refused("mail_unreadable", "Corrupt.")
        if message_id in self.gone:
            return None
        return f"From: Ann <ann@example.com>\r\nSubject: About {message_id}\r\n\r\nHello {message_id}\r\n".encode()

    async def _step(self) -> None:
        self.calls += 1
        if self.each:
            await self.each()
        if self.dies_in is not None:
            self.dies_in -= 1
            if self.dies_in < 0:
                self.dies_in = None
                raise Killed
        if self.faults:
            raise self.faults.pop(0)


class Room:
    """One receiving room: its mailbox, its store, and a clock that only tests move."""

    def __init__(self, **account: Any) -> None:
        self.clock = Clock()
        self.fake = FakeStore(now=self.clock)
        self.store = Mortal(self.fake)
        self.mailbox = FakeMailbox(self.clock)
        self.keyring = FakeKeyring()
        fields: dict[str, Any] = {"name": "billing", "provider": "graph", "address": "b@x.example", "profile": PROFILE} | account
        self.account = Account(**fields)
        store: Any = self.store
        self.cursors = StoredCursors(store)
        self.sync = self.instance()

    def instance(self) -> Sync:
        """Another one of the app, on the same storage."""
        store: Any = self.store
        nonces = (f"n{number}" for number in count())
        lanes = StoredLanes(store)
        return Sync(store, self.cursors, StoredInbox(store), self.keyring, lambda account: self.mailbox, lanes, lambda: next(nonces), TURN)

    async def run(self) -> None:
        """One ticket; a kill ends it where it stands."""
        try:
            await self.sync.run(self.account)
        except Killed:
            self.fake.queues.pop("mail-sync", None)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(message.body) for message in self.fake.queues.get("mail-received", [])]

    @property
    def announced(self) -> list[str]:
        return [event["data"]["id"] for event in self.events]

    @property
    def tickets(self) -> int:
        return len(self.fake.queues.get("mail-sync", []))


async def synced(**account: Any) -> Room:
    """A room whose first sync is over, with two old mails."""
    room = Room(**account)
    room.mailbox.deliver("old1", room.clock() - 100)
    room.mailbox.deliver("old2", room.clock() - 50)
    await room.run()
    room.clock.time += 60
    return room


async def test_a_new_mail_is_stored_and_announced() -> None:
    """It lies in blobs as it came and as JSON, and the event names both; nothing is announced a second time."""
    room = await synced()
    room.mailbox.deliver("m1")
    await room.run()
    await room.run()
    [event] = room.events
    data = event["data"]
    assert (event["specversion"], event["type"], event["datacontenttype"]) == ("1.0", "mailroom.mail.received", "application/json")
    assert event["source"] == "/mailroom/accounts/billing"
    assert event["time"] == data["received"] == "2023-11-14T22:14:20Z"
    assert (data["account"], data["id"], data["subject"], data["from"]) == ("billing", "m1", "About m1", "ann@example.com")
    assert data["eml"].startswith("billing/2023/11/14/")
    assert room.fake.blobs["mail-inbox", data["eml"]].body == await room.mailbox.mime(room.account, "m1", Token("t", 0))
    stored = json.loads(room.fake.blobs["mail-inbox", data["json"]].body)
    assert stored["from"] == [{"address": "ann@example.com", "name": "Ann"}]
    assert (stored["text"], stored["html"], stored["attachments"], stored["eml"]) == ("Hello m1\n", None, [], data["eml"])
    assert (stored["account"], stored["id"]) == ("billing", "m1")


async def test_the_first_sync_starts_from_now() -> None:
    """What lay in the mailbox before is walked over by ids alone, without an event; what comes during the walk is announced."""
    room = Room()
    started = room.clock()
    for number in range(10):
        room.mailbox.deliver(f"old{number}", room.clock() - 1000 + number)
    room.mailbox.deliver("during")
    await room.run()
    assert room.announced == ["during"]
    assert all(room.mailbox.sizes)
    assert room.mailbox.horizons == {float(int(started))}
    await room.run()
    assert room.mailbox.sizes[-1] is False


async def test_a_first_sync_can_start_at_a_date() -> None:
    """With a date told, what was received since then is announced too."""
    room = Room(since=datetime.fromtimestamp(1_700_000_000 - 70, UTC))
    room.mailbox.deliver("older", room.clock() - 100)
    room.mailbox.deliver("newer", room.clock() - 50)
    await room.run()
    assert room.announced == ["newer"]


async def test_a_changed_flag_is_no_new_mail() -> None:
    """A mail that was read, moved back or otherwise changed shows again in the delta, and is not announced again."""
    room = await synced()
    room.mailbox.deliver("m1")
    await room.run()
    for name in ("m1", "old1", "m1"):
        room.mailbox.change(name)
    await room.run()
    assert room.announced == ["m1"]


async def test_a_mail_twice_on_a_page_is_announced_once() -> None:
    """Delta answers may repeat themselves."""
    room = await synced()
    room.mailbox.deliver("m1")
    room.mailbox.change("m1")
    await room.run()
    assert room.announced == ["m1"]


async def test_a_lost_cursor_loses_no_mail() -> None:
    """When the provider has forgotten where we were, the folder is walked anew and only what was missed is announced."""
    room = await synced()
    room.mailbox.deliver("m1")
    await room.run()
    room.mailbox.deliver("m2")
    room.mailbox.forgotten = True
    await room.run()
    assert room.announced == ["m1", "m2"]


async def test_a_mail_that_is_gone_is_passed_over() -> None:
    """Deleted between the page and the mail itself: there is nothing to announce, and the rest goes on."""
    room = await synced()
    room.mailbox.deliver("m1")
    room.mailbox.deliver("m2")
    page = room.mailbox.page

    async def deleted_right_after(*args: Any, **options: Any) -> Page:
        found = await page(*args, **options)
        room.mailbox.gone.add("m1")
        return found

    room.mailbox.page = deleted_right_after  # type: ignore[method-assign]
    await room.run()
    assert room.announced == ["m2"]


async def test_a_mail_that_cannot_be_read_holds_up_nobody() -> None:
    """A corrupt mail is told in the log; those behind it arrive."""
    room = await synced()
    room.mailbox.deliver("m1")
    room.mailbox.deliver("m2")
    room.mailbox.unreadable.add("m1")
    await room.run()
    assert room.announced == ["m2"]


async def test_a_rejected_token_is_barred_and_replaced() -> None:
    """A 401 bars that token, and one new one is tried, once."""
    room = await synced()
    room.mailbox.deliver("m1")
    room.mailbox.faults = [TokenRejected("token_rejected", "401")]
    await room.run()
    assert (room.announced, len(room.keyring.barred)) == (["m1"], 1)
    room.mailbox.deliver("m2")
    room.mailbox.faults = [TokenRejected("token_rejected", "401"), TokenRejected("token_rejected", "401")]
    await room.run()
    assert (room.announced, len(room.keyring.barred)) == (["m1"], 2)


async def test_a_throttled_mailbox_rests() -> None:
    """After a 429 a ticket comes back when the provider said, and no other ticket asks before."""
    room = await synced()
    room.mailbox.deliver("m1")
    room.mailbox.faults = [Throttled("throttled", "429", retry_after=30.0)]
    await room.run()
    assert room.tickets == 1
    assert room.fake.queues["mail-sync"][0].visible_at == room.clock() + 30
    assert (await StoredLanes(room.fake).look(room.account)).not_before == room.clock() + 30
    calls = room.mailbox.calls
    await room.run()
    assert room.mailbox.calls == calls
    room.clock.time += 31
    await room.run()
    assert room.announced == ["m1"]


async def test_a_mailbox_that_rests_is_not_asked() -> None:
    """What a send was told to wait for holds for the sync as well: one ticket comes back by then, and no other asks before."""
    room = await synced()
    await StoredLanes(room.fake).release(room.account, "none", not_before=room.clock() + 40, why="throttled")
    calls = room.mailbox.calls
    await room.run()
    await room.run()
    assert (room.mailbox.calls, room.tickets) == (calls, 1)
    assert room.fake.queues["mail-sync"][0].visible_at == room.clock() + 40


async def test_its_requests_count_among_the_mailboxes_few() -> None:
    """While four are in flight a sync comes again in a moment; it has a permit of its own while it is at work, and none when it is not."""
    room = await synced()
    room.mailbox.deliver("m1")
    lanes = StoredLanes(room.fake)
    assert isinstance(await lanes.join(room.account, Permit("batch", 4, room.clock() + 60)), Permit)
    calls = room.mailbox.calls
    await room.run()
    assert (room.mailbox.calls, room.tickets) == (calls, 1)
    assert room.fake.queues["mail-sync"][0].visible_at == room.clock() + 1
    await lanes.release(room.account, "batch")
    await room.run()
    assert room.announced == ["m1"]
    assert (await lanes.look(room.account)).permits == ()


async def test_its_permit_lasts_as_long_as_its_work() -> None:
    """However slow the mailbox is, at each of its requests one permit is alive."""
    room = await synced()
    lanes, alive = StoredLanes(room.fake), []

    async def slow() -> None:
        room.clock.time += TURN / 3 - 1
        alive.append([permit.until > room.clock() for permit in (await lanes.look(room.account)).permits])

    room.mailbox.each = slow
    for number in range(8):
        room.mailbox.deliver(f"m{number}")
    await room.run()
    assert len(alive) >= 8
    assert all(one == [True] for one in alive), alive


async def test_a_fault_of_the_account_waits_for_the_next_tick() -> None:
    """Nothing is poisoned because a vault or a provider is down: the timer asks again."""
    room = await synced()
    room.mailbox.deliver("m1")
    room.keyring.fault = VaultDown("vault_down", "Down.")
    await room.run()
    room.keyring.fault = None
    room.mailbox.faults = [NotSent("provider_failed", "500")]
    await room.run()
    assert room.announced == []
    await room.run()
    assert room.announced == ["m1"]


async def test_of_two_that_race_one_stops() -> None:
    """Two instances with a ticket each for one mailbox: both may announce a page, with the same ids, but only one goes on from there."""
    room = await synced()
    for number in range(4 * PAGE):
        room.mailbox.deliver(f"m{number}")
    await asyncio.gather(room.run(), room.instance().run(room.account))
    assert set(room.announced) == {f"m{number}" for number in range(4 * PAGE)}
    assert len(room.announced) <= 5 * PAGE
    ids = {(event["id"], event["data"]["id"]) for event in room.events}
    assert len(ids) == 4 * PAGE


async def test_tickets_that_one_instance_has_at_once_are_one_sync() -> None:
    """After a pause several tickets for one mailbox may show together: one instance tells of each mail once."""
    room = await synced()
    for number in range(4 * PAGE):
        room.mailbox.deliver(f"m{number}")
    await asyncio.gather(room.run(), room.run(), room.run())
    assert sorted(room.announced) == sorted(f"m{number}" for number in range(4 * PAGE))


async def test_a_long_run_continues_with_a_new_ticket() -> None:
    """A mailbox with much to sync leaves room for others: its run ends after a while, and a ticket goes on."""
    room = await synced()
    for number in range(300):
        room.mailbox.deliver(f"m{number}")
    await room.run()
    assert room.tickets == 1
    assert 150 <= len(room.announced) < 300
    await room.run()
    assert len(room.announced) == 300
    assert room.tickets == 1


async def test_another_mailbox_starts_afresh() -> None:
    """An account that is given another address is not synced from the old mailbox's cursor."""
    room = await synced()
    room.account = Account(name="billing", provider="graph", address="new@x.example", profile=PROFILE)
    room.mailbox.log.clear()
    room.mailbox.deliver("theirs", room.clock() - 10)
    await room.run()
    room.mailbox.deliver("m1")
    await room.run()
    assert room.announced == ["m1"]


async def test_marks_go_with_the_horizon() -> None:
    """Marks are kept for as long as told; a change to an older mail is no news even then."""
    room = await synced()
    room.mailbox.deliver("m1")
    await room.run()
    room.clock.time += 31 * DAY
    await room.run()
    assert not [key for _, key in room.fake.tables["MailCursors"] if key.startswith("seen|")]
    room.mailbox.change("m1")
    await room.run()
    assert room.announced == ["m1"]


async def test_mails_that_came_while_we_were_down_for_long_are_announced() -> None:
    """The horizon follows only when nothing more waits: after two months of silence nothing is taken for old."""
    room = await synced()
    room.mailbox.deliver("m1")
    room.clock.time += 60 * DAY
    await room.run()
    assert room.announced == ["m1"]


async def test_a_page_with_more_news_than_a_transaction_holds() -> None:
    """All of its marks are kept, though a table transaction takes a hundred changes."""
    room = await synced()
    arrivals = [Arrival(f"m{number}", datetime.fromtimestamp(room.clock(), UTC)) for number in range(230)]
    cursor = await room.cursors.read(room.account)
    assert cursor
    await room.cursors.save(room.account, cursor, arrivals)
    assert await room.cursors.unseen(room.account, arrivals) == []


async def test_a_cursor_that_moved_meanwhile_is_not_moved_back() -> None:
    """Saving an outdated cursor raises, and leaves no mark either."""
    room = await synced()
    outdated = await room.cursors.read(room.account)
    assert outdated
    await room.cursors.save(room.account, outdated)
    arrival = Arrival("m1", datetime.fromtimestamp(room.clock(), UTC))
    try:
        await room.cursors.save(room.account, outdated, [arrival])
    except StorageConflict:
        assert await room.cursors.unseen(room.account, [arrival]) == [arrival]
    else:
        raise AssertionError("an outdated cursor was saved")


STEP = st.one_of(
    st.just(("deliver", 0)),
    st.just(("change", 0)),
    st.just(("forget", 0)),
    st.just(("sync", 0)),
    st.tuples(st.just("kill"), st.integers(0, 60)),
    st.tuples(st.just("kill after"), st.integers(0, 60)),
    st.tuples(st.just("kill at provider"), st.integers(0, 12)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=25))
def test_killed_anywhere_nothing_is_lost(steps: list[tuple[str, int]]) -> None:
    """Whatever storage or provider call a process dies at, every mail is announced, always with the same id, and no old one ever."""

    async def story() -> None:
        room = Room()
        for number in range(4):
            room.mailbox.deliver(f"old{number}", room.clock() - 10)
        expected: list[str] = []
        started = False
        for what, number in steps:
            room.clock.time += 1
            await _act(room, what, number, expected if started else None)
            started = started or bool(room.fake.tables.get("MailCursors"))
        room.store.dies_in = room.mailbox.dies_in = None
        for _ in range(3):
            await room.run()
        missing = set(expected) - set(room.announced)
        assert not missing
        assert not [name for name in room.announced if name.startswith("old")]
        assert len({(event["id"], event["data"]["id"]) for event in room.events}) == len(set(room.announced))
        for event in room.events:
            assert ("mail-inbox", event["data"]["eml"]) in room.fake.blobs
            assert ("mail-inbox", event["data"]["json"]) in room.fake.blobs
        if not any(what.startswith("kill") for what, _ in steps):
            assert max(Counter(room.announced).values(), default=1) == 1

    asyncio.run(story())


async def _act(room: Room, what: str, number: int, expected: list[str] | None) -> None:
    """`expected` gathers what was delivered since the first sync began."""
    match what:
        case "deliver":
            _deliver(room, expected)
        case "change":
            room.mailbox.log += room.mailbox.log[:3]
        case "forget":
            room.mailbox.forgotten = True
        case "kill" | "kill after":
            room.store.after, room.store.dies_in = what == "kill after", number
        case "kill at provider":
            room.mailbox.dies_in = number
    if what == "sync" or what.startswith("kill"):
        await room.run()


def _deliver(room: Room, expected: list[str] | None) -> None:
    name = f"m{len(room.mailbox.received)}"
    room.mailbox.deliver(name)
    if expected is not None:
        expected.append(name)
