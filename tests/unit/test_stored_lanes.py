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
    assert await lanes.take(ACCOUNT, Permit(nonce, 4, NOW + 1000), 1, single=False) is None
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
    assert await theirs.take(ACCOUNT, Permit("b", 4, NOW + 1000), 1, single=False) is None
    assert await ours.take(ACCOUNT, Permit("c", 4, NOW + 1000), 1, single=False) is not None
    await theirs.release(ACCOUNT, "b", not_before=NOW + 60)
    assert await ours.take(ACCOUNT, Permit("d", 4, NOW + 1000), 1, single=False) == NOW + 60


async def test_a_full_lane_is_looked_at_again(store: FakeStore) -> None:
    """That a lane was full when we wrote it last says nothing of now."""
    ours, theirs = StoredLanes(store), StoredLanes(store)
    assert await ours.take(ACCOUNT, Permit("a", 4, NOW + 1000), 1, single=False) is None
    await theirs.release(ACCOUNT, "a")
    assert await ours.take(ACCOUNT, Permit("b", 4, NOW + 1000), 1, single=False) is None


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
    assert await ours.take(account, Permit("a", 1, NOW + 1000), 1, single=False, recipients=70) is None
    assert await theirs.take(account, Permit("b", 1, NOW + 1000), 1, single=False, recipients=31) is not None
    assert await theirs.take(account, Permit("c", 1, NOW + 1000), 1, single=False, recipients=30) is None
    await theirs.release(account, "c", unsent=30)
    assert await ours.take(account, Permit("d", 1, NOW + 1000), 1, single=False, recipients=30) is None
    assert sum(map(len, map(str, store.tables[LANES_TABLE]["billing", "graph"].values.values()))) < 500


async def test_without_a_daily_limit_nothing_is_counted(store: FakeStore) -> None:
    """The row is the one that it was."""
    await turn(StoredLanes(store), "a")
    assert set(store.tables[LANES_TABLE]["billing", "graph"].values) == {"shared", "singles", "not_before", "permits"}
