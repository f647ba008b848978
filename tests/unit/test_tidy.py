"""What is kept no longer than keep_days goes, in bounded steps, and what is still owed stays."""

from __future__ import annotations

import msgspec
import pytest

from mailroom.model.batch import Batch
from mailroom.model.message import Address, Message
from mailroom.model.places import INBOX_CONTAINER, KEYS_TABLE, LEDGER_TABLE, OUTBOX_CONTAINER, UPLOADS_CONTAINER
from mailroom.model.row import Change, Row
from mailroom.model.slice import Mail, Ref, Slice, Status
from mailroom.storage.keys import Entry, StoredKeys
from mailroom.storage.ledger import StoredLedger
from mailroom.storage.outbox import StoredOutbox, slice_of
from send_mail.uploads import LIFETIME
from tests.fakes import FakeStore
from token_refresh.pace import Pace
from token_refresh.tidy import EVERY, Tidy

DAY = 86400.0
KEEP = 30 * DAY
START = 1_700_000_000.0
MAIL = Message(account="billing", to=(Address("ann@example.com"),), subject="Hi", text="Hello")


class House:
    """A store whose clock only the test moves; a `run` is a tick of the timer, far enough from the last one."""

    def __init__(self) -> None:
        self.time = START
        self.store = FakeStore(now=lambda: self.time)
        self.ledger = StoredLedger(self.store)

    def tidy(self, pages: int = 20, blobs: int = 1000) -> Tidy:
        return Tidy(self.store, self.ledger, Pace(self.store), KEEP, pages=pages, blobs=blobs)

    async def mail(self, unit: str, status: Status, account: str = "billing") -> Ref:
        ref = Ref(account, unit)
        slice_ = Slice(ref, "caller", (Mail(unit),), self.time)
        await StoredOutbox(self.store).put(ref, [MAIL])
        await self.ledger.insert([slice_])
        if status != "pending":
            claimed = await self.ledger.claim(msgspec.structs.replace(slice_, etag=self.etag(ref)), "nonce", self.time + 1)
            assert claimed is not None
            await self.ledger.settle(claimed, {0: msgspec.structs.replace(claimed.mails[0], status=status)})
        return ref

    def etag(self, ref: Ref) -> str:
        return self.store.tables[LEDGER_TABLE][ref.account, f"s|{ref.unit}|{ref.slice:05}"].etag

    def left(self, table: str) -> set[str]:
        return {key for _, key in self.store.tables.get(table, {})}

    def blobs(self, container: str) -> set[str]:
        return {name for where, name in self.store.blobs if where == container}


@pytest.fixture
def house() -> House:
    return House()


async def test_what_is_settled_goes_after_its_time(house: House) -> None:
    """Row and body of a sent mail are there for keep_days and gone after it."""
    await house.mail("sent", "sent")
    house.time += KEEP
    await house.tidy().run()
    assert house.left(LEDGER_TABLE) == {"s|sent|00000"}
    house.time += EVERY
    await house.tidy().run()
    assert house.left(LEDGER_TABLE) == set()
    assert house.blobs(OUTBOX_CONTAINER) == set()


@pytest.mark.parametrize("status", ["pending", "sending", "in_doubt"])
async def test_what_is_owed_stays(house: House, status: Status) -> None:
    """However old it is, a mail that may still go keeps its row, its marker and its body."""
    await house.mail("owed", status)
    before = house.left(LEDGER_TABLE)
    house.time += 10 * KEEP
    await house.tidy().run()
    assert house.left(LEDGER_TABLE) == before
    assert house.blobs(OUTBOX_CONTAINER) == {"billing/owed/00000"}


@pytest.mark.parametrize("status", ["refused", "held", "cancelled"])
async def test_what_nobody_decided_goes_too(house: House, status: Status) -> None:
    """A refused, held or cancelled mail is not owed any more."""
    await house.mail("over", status)
    house.time += KEEP + 1
    await house.tidy().run()
    assert (house.left(LEDGER_TABLE), house.blobs(OUTBOX_CONTAINER)) == (set(), set())


async def test_what_a_batch_shares_stays_with_its_header(house: House) -> None:
    """Its attachments and refused lines go when the batch itself is forgotten, and not before."""
    house.time += 10 * KEEP
    await house.ledger.put_batch(Batch("b12", "caller", house.time, {"billing": 1}), commit=True)
    house.time = START
    await house.store.put_blob(OUTBOX_CONTAINER, "batches/b12/shared", b"x")
    await house.store.put_blob(OUTBOX_CONTAINER, "batches/b12/refused.json", b"[]")
    house.time += 10 * KEEP
    await house.tidy().run()
    assert house.blobs(OUTBOX_CONTAINER) == {"batches/b12/shared", "batches/b12/refused.json"}
    house.time += KEEP + 1
    await house.tidy().run()
    house.time += EVERY
    await house.tidy().run()
    assert (house.left(LEDGER_TABLE), house.blobs(OUTBOX_CONTAINER)) == (set(), set())


async def test_a_header_stays_as_long_as_anything_of_its_batch(house: House) -> None:
    """A mail that waits longer than keep_days is still one of an accepted batch; once it is settled and gone, the header goes."""
    await house.ledger.put_batch(Batch("b12", "caller", house.time, {"support": 1, "billing": 1}), commit=True)
    ref = await house.mail("b12", "pending")
    house.time += 3 * KEEP
    await house.tidy().run()
    assert "header" in house.left(LEDGER_TABLE)
    found = await house.ledger.read(ref)
    assert found is not None
    await house.ledger.settle(found, {0: msgspec.structs.replace(found.mails[0], status="sent")})
    for _ in range(2):
        house.time += EVERY
        await house.tidy().run()
    assert house.left(LEDGER_TABLE) == set()


async def test_names_and_received_mails_go(house: House) -> None:
    """Ids and Idempotency-Keys, and what was stored of received mail; what is younger stays."""
    keys = StoredKeys(house.store)
    await keys.first(Entry("key", "caller", "old", "r", "billing", "u", house.time))
    await house.store.put_blob(INBOX_CONTAINER, "billing/old.eml", b"x")
    house.time += KEEP
    young = Entry("key", "caller", "young", "r", "billing", "u", house.time)
    await keys.first(young)
    await house.store.put_blob(INBOX_CONTAINER, "billing/young.eml", b"x")
    house.time += 1
    await house.tidy().run()
    assert await keys.find("key", "caller", "old") is None
    assert await keys.find("key", "caller", "young") == young
    assert house.blobs(INBOX_CONTAINER) == {"billing/young.eml"}


async def test_an_upload_outlives_every_mail_that_may_name_it(house: House) -> None:
    """It may be named for a day, so it stays a day longer than the bodies."""
    await house.store.put_blob(UPLOADS_CONTAINER, "caller/u1", b"x")
    house.time += KEEP + LIFETIME - 1
    await house.tidy().run()
    assert house.blobs(UPLOADS_CONTAINER) == {"caller/u1"}
    house.time += EVERY
    await house.tidy().run()
    assert house.blobs(UPLOADS_CONTAINER) == set()


async def test_a_tick_does_a_bounded_part_and_the_next_goes_on(house: House) -> None:
    """Many old rows among many young ones are found in as many ticks as it takes, no tick reading more than its pages."""
    for number in range(40):
        created = START if number % 5 == 0 else START + KEEP
        await house.store.write(KEYS_TABLE, [Change("insert", Row(f"p{number:02}", "k", {"created": created, "owed": False}))])
    house.time += KEEP + 1
    ticks = 0
    while len(house.store.tables[KEYS_TABLE]) > 32:
        house.store.calls.clear()
        await house.tidy(pages=2).run()
        assert house.store.calls.count("old_rows") <= 3
        ticks += 1
        assert ticks < 20
    assert ticks > 3


async def test_a_place_that_was_gone_through_has_peace(house: House) -> None:
    """Where nothing is left to do, no tick of the next hours lists it again."""
    await house.tidy().run()
    house.store.calls.clear()
    house.time += EVERY - 1
    await house.tidy().run()
    assert set(house.store.calls) == {"get_row"}
    house.time += 1
    await house.tidy().run()
    assert house.store.calls.count("old_blobs") == 3


async def test_many_old_blobs_take_several_ticks(house: House) -> None:
    """As many as a tick may delete, then more at the next one, without the hours between."""
    for number in range(5):
        await house.store.put_blob(INBOX_CONTAINER, f"{number}", b"x")
    house.time += KEEP + 1
    for left in (3, 1, 0):
        await house.tidy(blobs=2).run()
        assert len(house.blobs(INBOX_CONTAINER)) == left


async def test_what_changes_meanwhile_stays(house: House) -> None:
    """A row that somebody wrote between our reading and our deleting is not deleted."""
    await house.store.write(KEYS_TABLE, [Change("insert", Row("p", "k", {"created": START, "owed": False}))])
    [row] = (await house.store.old_rows(KEYS_TABLE, START + 1))[0]
    await house.store.write(KEYS_TABLE, [Change("merge", Row("p", "k", {"owed": True}))])
    assert await house.tidy()._delete(KEYS_TABLE, [row]) == 0
    assert house.left(KEYS_TABLE) == {"k"}


def test_a_blob_names_its_slice() -> None:
    """Account names may hold dots and @; what is no body of ours names nothing."""
    assert slice_of("ann@x.example/b12/00003") == Ref("ann@x.example", "b12", 3)
    for name in ("", "a", "a/b", "a/b/c", "a//00001", "readme.txt"):
        assert slice_of(name) is None
