"""The promises of `ports.Store`, kept by the REST client on Azurite and by the fake alike."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from mailroom.errors import StorageConflict, TooLarge
from mailroom.model.account import Storage
from mailroom.model.row import Change, Row, Ticket
from mailroom.ports import Store
from mailroom.storage.rest import RestStore
from tests.fakes import FakeStore

PARTITION = "billing@contoso.example"
STRANGE_KEYS = ["it's", "''", "s|batch|00017", "a b+c&d=e%41", "ü 漢 🎈", "$filter eq 'x'", "(1),(2)", "key;~!*"]


@pytest.fixture(params=["rest", "fake"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "fake":
        return FakeStore()
    storage: Storage = request.getfixturevalue("storage")
    client: httpx.AsyncClient = request.getfixturevalue("client")
    return RestStore(storage, client, None, resource="")  # type: ignore[arg-type]  # a key needs no identity


async def test_a_row_comes_back_as_it_was(store: Store, place: str) -> None:
    """Every type of value survives, with the ETag that the write returned."""
    values = {
        "text": 'ü "quoted"\\\n',
        "empty": "",
        "int": -(2**63),
        "whole": 2.0,
        "float": 0.1,
        "inf": float("inf"),
        "yes": True,
        "raw": b"\x00\xff",
    }
    [etag] = await store.write(place, [Change("insert", Row(PARTITION, "k", values))])
    row = await store.get_row(place, PARTITION, "k")
    assert row == Row(PARTITION, "k", values, etag)
    assert {name: type(value) for name, value in row.values.items()} == {name: type(value) for name, value in values.items()}
    assert await store.query(place, PARTITION) == [row]


async def test_what_is_nowhere_is_nothing(store: Store, place: str) -> None:
    """Reading from a table, container or queue that nobody made yet finds nothing, and deleting there is no error."""
    assert await store.get_row(place, "p", "k") is None
    assert await store.query(place, "p") == []
    assert await store.get_blob(place, "b") is None
    assert await store.old_blobs(place, time.time()) == []
    assert await store.receive(place) == []
    assert await store.queue_length(place) == 0
    await store.delete_blob(place, "b")
    await store.delete_ticket(place, Ticket("id", "receipt", b"", 1))
    assert await store.write(place, [Change("delete", Row("p", "k"))]) == [""]
    assert await store.write(place, []) == []


@pytest.mark.parametrize("key", STRANGE_KEYS)
async def test_strange_keys_work(store: Store, place: str, key: str) -> None:
    """Keys that need escaping in an address, a filter or a transaction name the very row."""
    both = [Change("insert", Row(key, key, {"v": 1})), Change("insert", Row(key, key + "+", {"v": 2}))]
    etags = await store.write(place, both)
    row = await store.get_row(place, key, key)
    assert row == Row(key, key, {"v": 1}, etags[0])
    await store.write(place, [Change("replace", Row(key, key, {"v": 3}, row.etag))])
    assert [found.values["v"] for found in await store.query(place, key, key, key + "~")] == [3, 2]
    assert await store.write(place, [Change("delete", Row(key, key)), Change("delete", Row(key, key + "+"))]) == ["", ""]


@pytest.mark.parametrize("key", ["a/b", "a\\b", "a#b", "a?b", "a\nb", "\x85"])
async def test_impossible_keys_are_named(store: Store, place: str, key: str) -> None:
    """A character that no table key may have is said at once, not answered with a bare 400."""
    with pytest.raises(ValueError, match="table key"):
        await store.write(place, [Change("insert", Row("p", key))])
    with pytest.raises(ValueError, match="table key"):
        await store.get_row(place, key, "k")


@pytest.mark.parametrize("company", [False, True], ids=["alone", "in a transaction"])
async def test_who_comes_second_loses(store: Store, place: str, company: bool) -> None:
    """An insert of what is there, a change of what is gone or has another ETag: StorageConflict, and nothing is written."""
    with_others = [Change("upsert", Row("p", "other"))] if company else []
    [etag] = await store.write(place, [Change("insert", Row("p", "k", {"v": 1}))])
    [newer] = await store.write(place, [Change("replace", Row("p", "k", {"v": 2}, etag))])
    losers = [
        Change("insert", Row("p", "k")),
        *(Change(verb, Row("p", "k", {"v": 3}, etag)) for verb in ("merge", "replace", "delete")),
        *(Change(verb, Row("p", "gone", {"v": 3}, etag)) for verb in ("merge", "replace", "delete")),
        *(Change(verb, Row("p", "gone", {"v": 3})) for verb in ("merge", "replace")),
    ]
    for loser in losers:
        with pytest.raises(StorageConflict):
            await store.write(place, [*with_others, loser])
    assert await store.query(place, "p") == [Row("p", "k", {"v": 2}, newer)]


@pytest.mark.parametrize("company", [False, True], ids=["alone", "in a transaction"])
async def test_verbs_do_what_they_say(store: Store, place: str, company: bool) -> None:
    """A merge keeps what it does not name, replace and upsert do not, and no ETag means any version."""
    with_others = [Change("upsert", Row("p", "other"))] if company else []

    async def after(change: Change) -> Row | None:
        etag = (await store.write(place, [*with_others, change]))[-1]
        row = await store.get_row(place, "p", "k")
        assert (row.etag if row else "") == etag
        return row

    assert (await after(Change("upsert", Row("p", "k", {"a": 1, "b": 2})))).values == {"a": 1, "b": 2}
    merged = await after(Change("merge", Row("p", "k", {"b": 3, "c": 4})))
    assert merged.values == {"a": 1, "b": 3, "c": 4}
    assert (await after(Change("merge", Row("p", "k", {"a": "text"}, merged.etag)))).values == {"a": "text", "b": 3, "c": 4}
    assert (await after(Change("replace", Row("p", "k", {"d": 5})))).values == {"d": 5}
    assert (await after(Change("upsert", Row("p", "k", {"e": 6})))).values == {"e": 6}
    assert await after(Change("delete", Row("p", "k"))) is None


async def test_a_transaction_is_all_or_nothing(store: Store, place: str) -> None:
    """A hundred changes go in one call; when the last is lost, none took place."""
    etags = await store.write(place, [Change("insert", Row("p", f"{n:03}", {"n": n})) for n in range(100)])
    assert len(etags) == 100
    deletions = [Change("delete", Row("p", f"{n:03}")) for n in range(99)]
    with pytest.raises(StorageConflict):
        await store.write(place, [*deletions, Change("insert", Row("p", "099"))])
    assert [row.etag for row in await store.query(place, "p")] == etags
    await store.write(place, [*deletions, Change("merge", Row("p", "099", {"last": True}))])
    assert [row.values for row in await store.query(place, "p")] == [{"n": 99, "last": True}]


async def test_a_transaction_goes_without_what_is_gone(store: Store, place: str) -> None:
    """A deletion that does not care about the version does not spoil a transaction when its row is gone."""
    gone, new = Change("delete", Row("p", "gone")), Change("insert", Row("p", "k", {"v": 1}))
    first, etag, last = await store.write(place, [gone, new, Change("delete", Row("p", "gone too"))])
    assert (first, last) == ("", "")
    assert await store.query(place, "p") == [Row("p", "k", {"v": 1}, etag)]


async def test_a_transaction_has_limits(store: Store, place: str) -> None:
    """More than 100 changes, or two partitions, are the caller's mistake."""
    with pytest.raises(ValueError, match="100"):
        await store.write(place, [Change("insert", Row("p", str(n))) for n in range(101)])
    with pytest.raises(ValueError, match="partition"):
        await store.write(place, [Change("insert", Row("p", "k")), Change("insert", Row("q", "k"))])


async def test_of_two_that_race_one_wins(store: Store, place: str) -> None:
    """Ten writers hold the same ETag: exactly one write succeeds."""
    [etag] = await store.write(place, [Change("insert", Row("p", "k", {"winner": -1}))])
    tries = [store.write(place, [Change("merge", Row("p", "k", {"winner": n}, etag))]) for n in range(10)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    winners = [n for n, outcome in enumerate(outcomes) if not isinstance(outcome, StorageConflict)]
    row = await store.get_row(place, "p", "k")
    assert row is not None
    assert [row.values["winner"]] == winners


async def test_a_query_gives_a_range_in_order(store: Store, place: str) -> None:
    """The first key is included, the last is not, and `top` cuts."""
    await store.write(place, [Change("insert", Row("p", key)) for key in ["b|2", "a|1", "b|1", "c|1"]])
    await store.write(place, [Change("insert", Row("q", "b|9"))])

    async def keys(*bounds: str, top: int | None = None) -> list[str]:
        return [row.key for row in await store.query(place, "p", *bounds, top=top)]

    assert await keys() == ["a|1", "b|1", "b|2", "c|1"]
    assert await keys("b|", "b}") == ["b|1", "b|2"]
    assert await keys("b|1", "b|2") == ["b|1"]
    assert await keys("b|2") == ["b|2", "c|1"]
    assert await keys("", "b|") == ["a|1"]
    assert await keys(top=3) == ["a|1", "b|1", "b|2"]
    assert await keys(top=0) == []


async def test_a_query_reads_on(store: Store, place: str) -> None:
    """More rows than a page holds come all, and `top` counts over pages."""
    for part in range(11):
        await store.write(place, [Change("insert", Row("p", f"{part:02}{n:02}")) for n in range(100)])
    assert [row.key for row in await store.query(place, "p")] == [f"{n:04}" for n in range(1100)]
    assert len(await store.query(place, "p", top=1050)) == 1050


async def test_a_property_has_a_limit(store: Store, place: str) -> None:
    """More than 64 KiB in one value is refused by name, and 32,000 characters are not too much."""
    await store.write(place, [Change("insert", Row("p", "k", {"text": "ü" * 32_000, "raw": b"x" * 65_000}))])
    with pytest.raises(TooLarge, match="storage_too_large"):
        await store.write(place, [Change("insert", Row("p", "k2", {"text": "x" * 33_000}))])
    with pytest.raises(TooLarge, match="storage_too_large"):
        await store.write(place, [Change("insert", Row("p", "k2", {"raw": b"x" * 66_000})), Change("insert", Row("p", "k3"))])


@pytest.mark.parametrize("name", ["plain", "billing@contoso.example/unit/00001", "a b/ü'~(1).eml", "%41+&=?#x"])
async def test_a_blob_comes_back_as_it_was(store: Store, place: str, name: str) -> None:
    """Bytes go in and out whole, under any name, until they are deleted."""
    body = bytes(range(256)) * 300
    assert await store.put_blob(place, name, b"first") is True
    assert await store.put_blob(place, name, body, content_type="message/rfc822") is True
    assert await store.put_blob(place, name, b"late", only_if_absent=True) is False
    assert await store.get_blob(place, name) == body
    assert await store.old_blobs(place, time.time() + 60) == [name]
    await store.delete_blob(place, name)
    assert await store.get_blob(place, name) is None
    assert await store.put_blob(place, name, b"", only_if_absent=True) is True
    assert await store.get_blob(place, name) == b""


async def test_a_blob_is_read_part_by_part(store: Store, place: str) -> None:
    """Its size and age are known without reading it, each part is just what was asked for, and behind its end there is nothing."""
    body = bytes(range(256)) * 40
    assert await store.find_blob(place, "b") is None
    assert await store.read_blob(place, "b", 0, 10) is None
    await store.put_blob(place, "b", body)
    known = await store.find_blob(place, "b")
    assert known is not None
    assert known.size == len(body)
    assert abs(known.modified - store.now()) < 2.5
    parts = [await store.read_blob(place, "b", at, 3000, etag=known.etag) for at in range(0, len(body), 3000)]
    assert [len(part or b"") for part in parts] == [3000, 3000, 3000, 1240]
    assert b"".join(part or b"" for part in parts) == body
    assert await store.read_blob(place, "b", len(body), 10) == b""
    await store.put_blob(place, "empty", b"")
    assert await store.read_blob(place, "empty", 0, 10) == b""


async def test_a_blob_that_changed_is_not_read_on(store: Store, place: str) -> None:
    """Who reads a blob in parts by its ETag never gets parts of two."""
    await store.put_blob(place, "b", b"first")
    known = await store.find_blob(place, "b")
    assert known is not None
    await store.put_blob(place, "b", b"other")
    with pytest.raises(StorageConflict):
        await store.read_blob(place, "b", 0, 5, etag=known.etag)
    assert await store.read_blob(place, "b", 0, 5) == b"other"


async def test_old_blobs_are_found_by_age(store: Store, place: str) -> None:
    """Only what was last modified before the given time, at most `top`."""
    for name in ("a", "b", "c"):
        await store.put_blob(place, name, b"x")
    assert await store.old_blobs(place, store.now() + 60, top=2) == ["a", "b"]
    assert await store.old_blobs(place, store.now() - 60) == []


async def test_old_rows_are_found_by_age(store: Store, place: str) -> None:
    """Page by page through all partitions, those created before the given time; a row without a time of its own is never old."""
    rows = [Row(partition, key, {"created": created}) for partition in "ab" for key, created in (("1", 1e9), ("2", 2e9), ("3", 1e9 + 0.5))]
    for row in [*rows, Row("c", "1", {"other": 1.0})]:
        await store.write(place, [Change("insert", row)])
    assert await store.old_rows(f"{place}x", 1.5e9) == ([], "")
    found, after = await store.old_rows(place, 1.5e9)
    while after:
        more, after = await store.old_rows(place, 1.5e9, after)
        found += more
    assert {(row.partition, row.key) for row in found} == {(partition, key) for partition in "ab" for key in "13"}
    await store.write(place, [Change("delete", found[0])])
    assert len((await store.old_rows(place, 1e9 + 0.1))[0]) == 1


async def test_a_ticket_is_received_once_and_deleted(store: Store, place: str) -> None:
    """A received ticket is hidden, counts its dequeues, and is gone once deleted."""
    await store.put_ticket(place, b"\x00<&>")
    [ticket] = await store.receive(place)
    assert (ticket.body, ticket.dequeue_count) == (b"\x00<&>", 1)
    assert await store.receive(place) == []
    assert await store.queue_length(place) == 1
    await store.delete_ticket(place, ticket)
    await store.delete_ticket(place, ticket)
    assert await store.queue_length(place) == 0


async def test_a_delayed_ticket_is_hidden_but_counted(store: Store, place: str) -> None:
    """Put for later, even for the longest time there is, it is not received now."""
    await store.put_ticket(place, b"soon", delay=0.4)
    await store.put_ticket(place, b"later", delay=7 * 86400)
    assert await store.receive(place) == []
    assert await store.queue_length(place) == 2


async def test_a_large_ticket_is_refused(store: Store, place: str) -> None:
    """48 KiB is what a message takes; more is refused before it is sent."""
    await store.put_ticket(place, b"x" * 48 * 1024)
    with pytest.raises(TooLarge, match="blob"):
        await store.put_ticket(place, b"x" * (48 * 1024 + 1))
    assert await store.queue_length(place) == 1


async def test_an_outdated_receipt_deletes_nothing(store: Store, place: str) -> None:
    """Who held a ticket for too long cannot take it from who holds it now."""
    await store.put_ticket(place, b"x")
    [held] = await store.receive(place)
    await store.delete_ticket(place, Ticket(held.id, "AAAAAAAAAAAAAAAA", b"", 1))
    assert await store.queue_length(place) == 1


async def test_now_is_near(store: Store, place: str) -> None:
    """Storage's clock, here on the same machine, is within the second that a Date header leaves open."""
    await store.get_blob(place, "x")
    assert abs(store.now() - time.time()) < 1.5
