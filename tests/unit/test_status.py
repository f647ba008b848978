"""What became of a mail or a batch, for the caller who made it and nobody else."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Any

import msgspec
import pytest

from mailroom.errors import NotFound, StorageDown
from mailroom.model.batch import Batch
from mailroom.model.slice import STATUSES
from send_mail import batches
from tests.sending import Room, message


@pytest.fixture
def room() -> Room:
    return Room()


async def accepted(room: Room, *values: Any, caller: str = "crm", key: str | None = None) -> Batch:
    """A batch with ?partial=true, whose accounts are all known."""
    good, refused = batches.lines(json.dumps(values).encode(), lambda message: None, partial=True)
    return await room.accept.batch(good, refused, caller, "hash", key)


def mail(**fields: Any) -> dict[str, Any]:
    return {"account": "billing", "to": ["ann@example.com"]} | fields


def other_account(room: Room) -> None:
    accounts = {**room.deliver.accounts, "support": msgspec.structs.replace(room.account, name="support", address="s@x.example")}
    room.deliver.accounts.update(accounts)  # type: ignore[attr-defined]


async def code_of(asked: Awaitable[Any]) -> str:
    with pytest.raises(NotFound) as caught:
        await asked
    assert caught.value.status == 404
    assert caught.value.next_step
    return caught.value.code


async def test_a_sent_mail_tells_what_is_known_and_no_more(room: Room) -> None:
    """The view has what the provider gave; what is not known is left out, not null."""
    await room.accept.single(message("m1"), "crm", "hash")
    assert await room.status.message("m1", "crm") == {
        "id": "m1",
        "status": "sent",
        "account": "billing",
        "attempts": 1,
        "path": "sendMail",
    }


async def test_a_refused_mail_tells_why(room: Room) -> None:
    """Code and detail are the provider's; what to do stands beside them."""
    room.provider.script = ["not sent", "refused"]
    await room.accept.single(message("m0"), "crm", "hash")
    view = await room.status.message("m0", "crm")
    assert (view["detail"], view["next_step"]) == ("Refused.", "It is tried again by itself.")
    room.pass_time(10.0)
    await room.accept.single(message("m1"), "crm", "hash")
    view = await room.status.message("m1", "crm")
    assert (view["status"], view["code"], view["detail"]) == ("refused", "recipient_invalid", "No such address.")


async def test_a_mail_that_waits_says_why_and_until_when(room: Room) -> None:
    """A mail that meets a lane that rests is pending with the lane's reason; one in doubt tells when it is asked for."""
    room.provider.script = ["429", "ok"]
    await room.accept.single(message("m1"), "crm", "hash")
    assert (await room.status.message("m1", "crm"))["due"] == "2023-11-14T22:13:30Z"  # a grace later
    await room.accept.single(message("m2"), "crm", "hash")
    view = await room.status.message("m2", "crm")
    assert (view["status"], view["code"], view["due"]) == ("pending", "lane_paused", "2023-11-14T22:13:25Z")
    assert "throttled" in view["detail"]
    assert "by itself" in view["next_step"]
    room.pass_time(5.0)
    await room.work_off()
    sent = await room.status.message("m2", "crm")
    assert (sent["status"], "due" in sent, "code" in sent) == ("sent", False, False)


async def test_a_mail_without_an_id_is_found_by_the_one_it_got(room: Room) -> None:
    """The id that the accepting answer gave leads back to the mail."""
    slice_ = await room.accept.single(message(), "crm", "hash")
    view = await room.status.message(slice_.mails[0].id, "crm")
    assert (view["id"], view["status"]) == (slice_.mails[0].id, "sent")


async def test_each_caller_has_ids_of_its_own(room: Room) -> None:
    """Two callers may use one id for two mails, and each sees its own."""
    room.provider.script = ["ok", "refused"]
    await room.accept.single(message("m1"), "crm", "hash")
    await room.accept.single(message("m1"), "shop", "other")
    assert (await room.status.message("m1", "crm"))["status"] == "sent"
    assert (await room.status.message("m1", "shop"))["status"] == "refused"


async def test_another_callers_message_is_not_found(room: Room) -> None:
    """By whatever name it is asked for, what another caller made looks like what never was."""
    single = await room.accept.single(message(), "crm", "hash")
    batch = await accepted(room, mail(), mail(id="own"))
    for name in (single.mails[0].id, f"{batch.id}.0.0.0", "own", "never"):
        assert await code_of(room.status.message(name, "shop")) == "message_unknown"
    assert (await room.status.message(f"{batch.id}.0.0.0", "crm"))["batch"] == batch.id


async def test_another_callers_batch_is_not_found(room: Room) -> None:
    """A batch of another caller looks like one that never was, down to the last word."""
    batch = await accepted(room, mail())
    with pytest.raises(NotFound) as theirs:
        await room.status.batch(batch.id, "shop")
    with pytest.raises(NotFound) as never:
        await room.status.batch("b0", "shop")
    assert theirs.value.code == never.value.code == "batch_unknown"
    assert theirs.value.detail.replace(batch.id, "b0") == never.value.detail
    assert (await room.status.batch(batch.id, "crm"))["id"] == batch.id


STRANGE = [
    "",
    "x",
    "...",
    ".0.0.0",
    "b.0.0",
    "b.a.0.0",
    "b.0.-1.0",
    "b.².0.0",
    f"b.{'9' * 5000}.0.0",
    "a/b.0.0.0",
    "a#b",
    "a\\b.0.0.0",
    "b?\n",
]


@pytest.mark.parametrize("name", STRANGE)
async def test_a_strange_name_is_only_not_found(room: Room, name: str) -> None:
    """Whatever stands in the path, the answer is 404 and never a fault of ours."""
    assert await code_of(room.status.message(name, "crm")) == "message_unknown"
    assert await code_of(room.status.batch(name, "crm")) == "batch_unknown"


async def test_mails_of_a_batch_are_found_by_their_place(room: Room) -> None:
    """Mails without ids of their own are named by batch, account, slice and place; what lies beyond is not found."""
    other_account(room)
    batch = await accepted(room, *[mail()] * 21, mail(account="support"))
    views = [await room.status.message(f"{batch.id}.{place}", "crm") for place in ("0.0.0", "0.0.19", "0.1.0", "1.0.0")]
    assert [(view["line"], view["account"]) for view in views] == [(1, "billing"), (20, "billing"), (21, "billing"), (22, "support")]
    assert [view["id"] for view in views] == [f"{batch.id}.{place}" for place in ("0.0.0", "0.0.19", "0.1.0", "1.0.0")]
    for place in ("0.0.20", "0.1.1", "0.2.0", "1.1.0", "2.0.0"):
        assert await code_of(room.status.message(f"{batch.id}.{place}", "crm")) == "message_unknown"


async def test_own_ids_of_a_batch_are_found(room: Room) -> None:
    """Each mail of a batch is found by its own id, in whichever slice it lies."""
    batch = await accepted(room, *[mail(id=f"n{number}") for number in range(1, 43)])
    for number in (1, 20, 21, 42):
        view = await room.status.message(f"n{number}", "crm")
        assert (view["id"], view["line"], view["batch"]) == (f"n{number}", number, batch.id)


async def test_a_batch_counts_every_mail_once(room: Room) -> None:
    """Every status has its count, also those that are 0, over all slices and accounts; refused lines count as refused."""
    other_account(room)
    batch = await accepted(room, *[mail()] * 25, {"bad": 1}, mail(account="support"), "bad")
    pending = dict.fromkeys(STATUSES, 0) | {"pending": 26, "refused": 2}
    assert (await room.status.batch(batch.id, "crm"))["counts"] == pending
    room.provider.script = ["ok"] * 17 + ["lost before", "refused", "not sent"]
    await room.work_off()
    counts = (await room.status.batch(batch.id, "crm"))["counts"]
    assert list(counts) == list(STATUSES)
    assert sum(counts.values()) == 28
    assert (counts["in_doubt"], counts["refused"]) == (1, 3)


async def test_refused_mails_are_listed_in_the_order_of_their_lines(room: Room) -> None:
    """What was refused at the door and what the provider refused stand in one list, each with line, id, code and detail."""
    room.provider.script = ["ok", "refused", "ok"]
    batch = await accepted(room, {"bad": 1}, mail(id="a"), mail(id="b"), mail(id="b"), mail(id="c"))
    await room.work_off()
    view = await room.status.batch(batch.id, "crm")
    assert [(one["line"], one["id"], one["code"]) for one in view["refused"]] == [
        (1, None, "field_unknown"),
        (3, "b", "recipient_invalid"),
        (4, "b", "id_repeated"),
    ]
    assert "'bad'" in view["refused"][0]["detail"]
    assert "Known are" in view["refused"][0]["next_step"]
    assert view["counts"] == dict.fromkeys(STATUSES, 0) | {"sent": 2, "refused": 3}


async def test_a_batch_of_refused_lines_alone_is_there(room: Room) -> None:
    """A partial batch without a good line has nothing to send and still tells what was refused."""
    batch = await accepted(room, {}, 7)
    view = await room.status.batch(batch.id, "crm")
    assert view["counts"] == dict.fromkeys(STATUSES, 0) | {"refused": 2}
    assert [one["line"] for one in view["refused"]] == [1, 2]


async def test_a_batch_without_refused_lines_asks_for_none(room: Room) -> None:
    """No blob is read where nothing was refused."""
    batch = await accepted(room, mail())
    room.fake.calls.clear()
    assert (await room.status.batch(batch.id, "crm"))["refused"] == []
    assert "get_blob" not in room.fake.calls


async def test_before_the_commit_nothing_is_there(room: Room) -> None:
    """A batch whose acceptance was cut off before its commit is not found, nor any mail of it; the repeated request makes it whole."""
    named = 0
    for cut in range(30):
        room.store.dies_in = cut
        batch = await room.alive(lambda: accepted(room, mail(id="own"), mail(), key="k"))
        room.store.dies_in = None
        entry = await room.keys.find("key", "crm", "k")
        if entry and await room.ledger.batch(entry.unit) is None:
            named += await room.keys.find("id", "crm", "own") is not None
            assert await code_of(room.status.batch(entry.unit, "crm")) == "batch_unknown"
            for name in ("own", f"{entry.unit}.0.0.0", f"{entry.unit}.0.0.1"):
                assert await code_of(room.status.message(name, "crm")) == "message_unknown"
        if batch:
            break
    assert named
    assert (await room.status.batch(batch.id, "crm"))["counts"]["pending"] == 2
    assert (await room.status.message("own", "crm"))["status"] == "pending"


@pytest.mark.parametrize("operation", ["get_row", "query"])
async def test_an_accepted_batch_is_accepted_whatever_fails_then(room: Room, operation: str) -> None:
    """Once the commit is written the answer has the batch's id, also where storage fails while its mails are counted."""
    batch = await accepted(room, mail(), mail())
    whole = await room.status.batch(batch.id, "crm")
    assert await room.status.accepted(batch) == whole
    room.fake.fail_next(operation)
    told = await room.status.accepted(batch)
    assert (told["id"], told["code"]) == (batch.id, "storage_down")
    assert "accepted" in told["detail"]
    assert f"/api/batches/{batch.id}" in told["next_step"]


async def test_storage_that_is_down_is_no_404(room: Room) -> None:
    """Who can't be looked up is not thereby unknown."""
    await room.accept.single(message("m1"), "crm", "hash")
    room.fake.fail_next("get_row")
    with pytest.raises(StorageDown):
        await room.status.message("m1", "crm")
