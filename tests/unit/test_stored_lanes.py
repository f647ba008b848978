"""Lanes in storage: how often they are read, and that what one instance remembers never hides what another has done."""

from __future__ import annotations

import msgspec
import pytest

from mailroom.model.account import Account, Cloud, Profile
from mailroom.model.lane import Permit
from mailroom.model.places import LANES_TABLE
from mailroom.model.row import Change, Row
from mailroom.storage.lanes import BUSY, StoredLanes
from tests.fakes import FakeStore

NOW = 1_700_000_000.0
ACCOUNT = Account("billing", "graph", "b@x.example", Profile("office", "client_credentials", "t", "c", Cloud("", "", "", "", "")), rate=6e5)


class Clock:
    """Each look at it takes a millisecond, in which ten mails may go."""

    time = NOW

    def __call__(self) -> float:
        self.time += 0.001
        return self.time


@pytest.fixture
def store() -> FakeStore:
    return FakeStore(now=Clock())


async def turn(lanes: StoredLanes, nonce: str) -> None:
    """Takes a permit and gives it back."""
    assert isinstance(await lanes.take(ACCOUNT, Permit(nonce, 4, NOW + 1000), 1, single=False), Permit)
    await lanes.release(ACCOUNT, nonce)


async def test_alone_it_reads_the_lane_once(store: FakeStore) -> None:
    """An instance that has a lane for itself pays for its writes only."""
    lanes = StoredLanes(store)
    for number in range(10):
        await turn(lanes, f"n{number}")
    assert (store.calls.count("get_row"), store.calls.count("write")) == (1, 20)


async def test_what_another_took_is_seen(store: FakeStore) -> None:
    """A permit that another instance took since we wrote last is respected, and so is its pause."""
    ours, theirs = StoredLanes(store), StoredLanes(store)
    await turn(ours, "a")
    assert isinstance(await theirs.take(ACCOUNT, Permit("b", 4, NOW + 1000), 1, single=False), Permit)
    assert isinstance(await ours.take(ACCOUNT, Permit("c", 4, NOW + 1000), 1, single=False), float)
    await theirs.release(ACCOUNT, "b", not_before=NOW + 60)
    assert await ours.take(ACCOUNT, Permit("d", 4, NOW + 1000), 1, single=False) == NOW + 60


async def test_a_full_lane_is_looked_at_again(store: FakeStore) -> None:
    """That a lane was full when we wrote it last says nothing of now."""
    ours, theirs = StoredLanes(store), StoredLanes(store)
    assert isinstance(await ours.take(ACCOUNT, Permit("a", 4, NOW + 1000), 1, single=False), Permit)
    await theirs.release(ACCOUNT, "a")
    assert isinstance(await ours.take(ACCOUNT, Permit("b", 4, NOW + 1000), 1, single=False), Permit)


async def test_a_batch_finds_its_place_beside_others(store: FakeStore) -> None:
    """While single mails keep the lane busy a slice takes one of the permits that are left, instead of waiting for all four."""
    lanes = StoredLanes(store)
    for nonce in "ab":
        assert isinstance(await lanes.take(ACCOUNT, Permit(nonce, 1, NOW + 1000), 1, single=True), Permit)
    slices = [await lanes.take(ACCOUNT, Permit(nonce, 4, NOW + 1000), 1, single=False) for nonce in "cde"]
    assert [one.weight if isinstance(one, Permit) else None for one in slices] == [1, 1, None]
    for nonce in "abcd":
        await lanes.release(ACCOUNT, nonce)
    alone = await lanes.take(ACCOUNT, Permit("f", 4, NOW + 1000), 1, single=False)
    assert isinstance(alone, Permit)
    assert alone.weight == 4


async def test_who_only_reads_needs_a_permit_and_no_slot(store: FakeStore) -> None:
    """A sync goes on while the rate makes mails wait; but not beside four requests in flight, nor while the lane rests."""
    lanes = StoredLanes(store)
    slow = msgspec.structs.replace(ACCOUNT, rate=1.0)
    assert isinstance(await lanes.take(slow, Permit("a", 1, NOW + 1000), 1, single=False), Permit)
    assert isinstance(await lanes.take(slow, Permit("b", 1, NOW + 1000), 1, single=False), float)
    for nonce in "cde":
        assert isinstance(await lanes.join(slow, Permit(nonce, 1, NOW + 1000)), Permit)
    assert isinstance(await lanes.join(slow, Permit("f", 1, NOW + 1000)), float)
    await lanes.release(slow, "c", not_before=NOW + 60, why="throttled")
    assert await lanes.join(slow, Permit("g", 1, NOW + 1000)) == NOW + 60


async def test_what_makes_sending_rest_is_no_reason_not_to_read(store: FakeStore) -> None:
    """A mailbox that may not send is received from all the same, however often sending is tried and rests again."""
    lanes = StoredLanes(store)
    await lanes.rest(ACCOUNT, NOW + 60, "access_denied")
    assert await lanes.take(ACCOUNT, Permit("a", 1, NOW + 1000), 1, single=True) == NOW + 60
    assert isinstance(await lanes.join(ACCOUNT, Permit("b", 1, NOW + 1000)), Permit)


async def test_a_lane_that_is_shared_is_read_first(store: FakeStore) -> None:
    """After one lost race an instance reads before it writes for a while, instead of losing again and again."""
    ours, theirs = StoredLanes(store), StoredLanes(store)
    await turn(ours, "a")
    await turn(theirs, "b")
    await turn(ours, "c")
    reads = store.calls.count("get_row")
    await turn(ours, "d")
    assert store.calls.count("get_row") == reads + 2
    assert isinstance(store.now, Clock)
    store.now.time += BUSY + 1
    await turn(ours, "e")
    await turn(ours, "f")
    assert store.calls.count("get_row") == reads + 3


async def test_all_instances_share_a_day(store: FakeStore) -> None:
    """What one has sent is no more there for the other; a row of a version that counted no days is read, and stays as small."""
    account = msgspec.structs.replace(ACCOUNT, recipients_a_day=100)
    await store.write(
        LANES_TABLE, [Change("insert", Row("billing", "graph", {"shared": 0.0, "singles": 0.0, "not_before": 0.0, "permits": "[]"}))]
    )
    ours, theirs = StoredLanes(store), StoredLanes(store)
    assert isinstance(await ours.take(account, Permit("a", 1, NOW + 1000), 1, single=False, recipients=70), Permit)
    assert isinstance(await theirs.take(account, Permit("b", 1, NOW + 1000), 1, single=False, recipients=31), float)
    assert isinstance(await theirs.take(account, Permit("c", 1, NOW + 1000), 1, single=False, recipients=30), Permit)
    await theirs.release(account, "c", unsent=30)
    assert isinstance(await ours.take(account, Permit("d", 1, NOW + 1000), 1, single=False, recipients=30), Permit)
    assert sum(map(len, map(str, store.tables[LANES_TABLE]["billing", "graph"].values.values()))) < 500


async def test_without_a_daily_limit_nothing_is_counted(store: FakeStore) -> None:
    """The row is the one that it was."""
    await turn(StoredLanes(store), "a")
    assert set(store.tables[LANES_TABLE]["billing", "graph"].values) == {"shared", "singles", "not_before", "permits"}
