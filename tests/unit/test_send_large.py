"""Large mails: uploaded once, sent once, whatever answers are lost and wherever a worker is killed."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailroom.errors import BadInput, TooLarge
from mailroom.model.message import Address, Attachment, Message
from mailroom.model.places import UPLOADS_CONTAINER
from mailroom.model.slice import OWED, Slice
from send_mail.line import Line
from tests.large import ANN, BILLING, CALLER, SIZE, LargeRoom, contents, letter


class Claimed:
    """A blob that has a size, and no bytes."""

    def __init__(self, size: int, modified: float) -> None:
        self.body = range(size)
        self.modified = modified
        self.etag = "e"


async def post(room: LargeRoom, message: Message, request: str = "hash") -> Slice | None:
    return await room.alive(lambda: room.accept.single(message, CALLER, request))


async def sent(room: LargeRoom, message: Message) -> dict[str, object]:
    await post(room, message)
    await room.come_to_rest()
    return await room.status.message(message.id or "", CALLER)


async def test_a_large_mail_is_answered_at_once_and_sent_by_its_ticket() -> None:
    """Who posts it does not wait for its upload; then it arrives byte for byte, and no draft is left."""
    room = LargeRoom()
    body = await room.upload()
    slice_ = await post(room, letter())
    assert slice_ is not None
    assert slice_.mails[0].status == "pending"
    await room.come_to_rest()
    view = await room.status.message("m1", CALLER)
    assert (view["status"], view["path"]) == ("sent", "draft")
    assert list(contents(room.items(ANN, "inbox"))) == [body]
    assert room.items(BILLING, "drafts") == []


@pytest.mark.parametrize(("size", "path", "why"), [(SIZE, "draft", "of which Graph takes 4194304"), (10, "sendMail", "fits one request")])
async def test_the_log_tells_which_way_and_why(caplog: pytest.LogCaptureFixture, size: int, path: str, why: str) -> None:
    """mail.sent names the path that was planned, and the reason for it."""
    room = LargeRoom()
    await room.upload(size=size)
    with caplog.at_level(logging.INFO, "mailroom"):
        await sent(room, letter())
    [event] = [told for line in caplog.messages if (told := json.loads(line))["event"] == "mail.sent"]
    assert event["path"] == path
    assert why in event["why"]


async def test_a_small_upload_goes_in_one_request() -> None:
    """An upload that fits needs neither a draft nor the permission for one, and is sent before the answer."""
    room = LargeRoom(permissions=frozenset({"Mail.Send", "Mail.Read"}))
    body = await room.upload(size=100_000)
    slice_ = await post(room, letter())
    assert slice_ is not None
    assert (slice_.mails[0].status, slice_.mails[0].path) == ("sent", "sendMail")
    assert list(contents(room.items(ANN, "inbox"))) == [body]
    assert room.wire.seen == ["POST sendMail"]


async def test_large_and_small_go_together() -> None:
    """Small uploads go by a plain POST, large ones by a session, and what came in the request is in the draft from its beginning."""
    room = LargeRoom()
    bodies = [await room.upload("u1"), await room.upload("u2", 50_000), b"in the request"]
    view = await sent(room, letter("m1", "u1", "u2", Attachment("own.txt", bodies[2])))
    assert view["status"] == "sent"
    assert sorted(contents(room.items(ANN, "inbox")), key=len) == sorted(bodies, key=len)


async def test_several_that_fit_alone_but_not_together() -> None:
    """Three uploads of 2 MB each take a draft, and each its own POST."""
    room = LargeRoom()
    for name in ("u1", "u2", "u3"):
        await room.upload(name, 2_000_000)
    assert (await sent(room, letter("m1", "u1", "u2", "u3")))["path"] == "draft"
    assert room.wire.seen.count("POST attachments") == 3
    assert "PUT" not in " ".join(room.wire.seen)


async def test_a_large_reply_keeps_its_thread() -> None:
    """JSON has no In-Reply-To: the draft of a large reply is made in MIME."""
    room = LargeRoom()
    body = await room.upload()
    assert (await sent(room, letter(in_reply_to="<first@x.example>")))["status"] == "sent"
    [item] = room.items(ANN, "inbox")
    assert ("In-Reply-To", "<first@x.example>") in item.headers
    assert list(contents([item])) == [body]


async def test_a_lost_answer_to_the_send_is_asked_for() -> None:
    """The draft was sent though nobody heard: it is found, and not sent again."""
    room = LargeRoom()
    await room.upload()
    await post(room, letter())
    room.wire.script = ["ok"] * 5 + ["lost after"]  # look for a draft, make it, begin a session, two chunks, send
    await room.come_to_rest()
    assert room.wire.seen[:6] == [
        "GET messages",
        "POST messages",
        "POST createUploadSession",
        *["PUT " + room.wire.seen[3][4:]] * 2,
        "POST send",
    ]
    assert room.copies() == [1]
    assert (await room.status.message("m1", CALLER))["status"] == "sent"


async def test_a_complete_draft_is_not_uploaded_again() -> None:
    """Killed right before the send: the next worker sends the draft that lies there."""
    room = LargeRoom()
    await room.upload()
    await post(room, letter())
    room.wire.script = ["ok"] * 5 + ["killed before"]
    await room.come_to_rest()
    assert room.copies() == [1]
    assert room.wire.seen.count("POST messages") == 1
    assert room.items(BILLING, "drafts") == []


async def test_a_half_made_draft_is_made_anew() -> None:
    """Killed between two chunks: the next worker deletes what lies there, and begins afresh."""
    room = LargeRoom()
    await room.upload()
    await post(room, letter())
    room.wire.script = ["ok"] * 3 + ["killed after"]
    await room.come_to_rest()
    assert room.copies() == [1]
    assert room.wire.seen.count("POST messages") == 2
    assert room.items(BILLING, "drafts") == []


async def test_a_draft_that_nobody_remembers_is_found_by_its_stamp() -> None:
    """Killed when the draft was made and before its id was kept: no draft is left over."""
    room = LargeRoom()
    await room.upload()
    await post(room, letter())
    room.wire.script = ["ok", "killed after"]
    await room.come_to_rest()
    assert room.copies() == [1]
    assert room.items(BILLING, "drafts") == []


async def test_a_lost_chunk_goes_on_where_the_session_is() -> None:
    """After a cut the session says how far it came: nothing of the upload is begun again."""
    room = LargeRoom()
    body = await room.upload()
    await post(room, letter())
    room.wire.script = ["ok"] * 3 + ["lost after", "ok", "lost before"]
    await room.come_to_rest()
    assert room.wire.seen.count("POST messages") == 1
    assert list(contents(room.items(ANN, "inbox"))) == [body]


WHATEVER = ["ok", "ok", "ok", "lost before", "lost after", "late", "killed before", "killed after"]
killing = st.one_of(st.none(), st.tuples(st.integers(0, 20), st.booleans()))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(WHATEVER), max_size=24), st.lists(killing, min_size=1, max_size=2))
def test_nothing_is_lost_and_nothing_is_sent_twice(script: list[str], kills: list[tuple[int, bool] | None]) -> None:
    """Cut, delayed or killed at any request to Graph and any call to storage: one copy at most, and whoever is told `sent` has one."""

    async def story() -> None:
        for name in ("u0", "u1"):
            await room.upload(name)
        for at, kill in enumerate(kills):
            room.store.dies_in, room.store.after = kill or (None, False)
            await post(room, letter(f"m{at}", f"u{at}"))
            await asyncio.gather(room.alive(room.work_off), room.alive(room.work_off), room.alive(room.sweep.run))
            room.pass_time(1.0)
        room.store.dies_in = None
        await room.come_to_rest()
        for at in range(len(kills)):  # a caller whose connection broke repeats the request
            await post(room, letter(f"m{at}", f"u{at}"))
        await room.come_to_rest()
        views = [await room.status.message(f"m{at}", CALLER) for at in range(len(kills))]
        assert [view["status"] for view in views if view["status"] in OWED] == []
        assert sum(view["status"] == "sent" for view in views) == sum(room.copies())
        assert max(room.copies(), default=0) <= 1
        if "late" not in script:  # a draft that is made late, behind everybody's back, may be left
            assert room.items(BILLING, "drafts") == []

    room = LargeRoom()
    room.wire.script = list(script)
    asyncio.run(story())


@pytest.mark.parametrize(
    ("message", "permissions", "code", "field"),
    [
        (letter("m1", "nowhere"), {"Mail.Send", "Mail.ReadWrite"}, "upload_missing", "attachments[0].blob"),
        (letter("m1", "u1", "theirs"), {"Mail.Send", "Mail.ReadWrite"}, "upload_missing", "attachments[1].blob"),
        (letter("m1", "u1", "old"), {"Mail.Send", "Mail.ReadWrite"}, "upload_expired", "attachments[1].blob"),
        (letter(), {"Mail.Send", "Mail.Read"}, "mail_needs_readwrite", ""),
    ],
)
async def test_wrong_uploads_are_refused_at_the_door(message: Message, permissions: set[str], code: str, field: str) -> None:
    """What is missing, another caller's, too old, or more than the account may send is named before anything is accepted."""
    room = LargeRoom(permissions=frozenset(permissions))
    await room.upload("old")
    room.pass_time(86401.0)
    await room.upload("u1")
    await room.upload("theirs", caller="hr")
    with pytest.raises(BadInput) as refused:
        await room.accept.single(message, CALLER, "hash")
    assert (refused.value.code, refused.value.field) == (code, field)
    assert refused.value.next_step
    await room.upload("u1", size=10)  # the name was not taken by what was refused
    slice_ = await post(room, letter(), "another request")
    assert slice_ is not None
    assert slice_.mails[0].status == "sent"


async def test_an_upload_that_changes_is_not_sent() -> None:
    """A mail's bytes are those that lay there when it was accepted: what is written over them later goes nowhere."""
    room = LargeRoom()
    await room.upload()
    await post(room, letter())
    await room.upload(size=SIZE)
    await room.come_to_rest()
    view = await room.status.message("m1", CALLER)
    assert (view["status"], view["code"]) == ("refused", "attachment_changed")
    assert room.items(ANN, "inbox") == room.items(BILLING, "drafts") == []


async def test_an_upload_that_is_gone_refuses_the_mail() -> None:
    """It will never be there again, so nobody is kept waiting."""
    room = LargeRoom()
    await room.upload()
    await post(room, letter())
    await room.fake.delete_blob(UPLOADS_CONTAINER, f"{CALLER}/u1")
    await room.come_to_rest()
    view = await room.status.message("m1", CALLER)
    assert (view["status"], view["code"]) == ("refused", "attachment_missing")
    assert room.items(BILLING, "drafts") == []


async def test_a_request_may_be_repeated_when_its_upload_is_gone() -> None:
    """What was accepted is accepted: the same request finds the same mail, sent."""
    room = LargeRoom()
    await room.upload()
    assert (await sent(room, letter()))["status"] == "sent"
    await room.fake.delete_blob(UPLOADS_CONTAINER, f"{CALLER}/u1")
    again = await post(room, letter())
    assert again is not None
    assert again.mails[0].status == "sent"
    assert room.copies() == [1]


async def test_a_draft_that_is_refused_is_taken_away() -> None:
    """Graph's no to a draft is told with what to do, and the draft does not stay in the mailbox."""
    room = LargeRoom()
    await room.upload()
    view = await sent(room, letter(sender=Address("boss@x.example")))
    assert (view["status"], view["code"]) == ("refused", "send_as_denied")
    assert "Add-RecipientPermission" in str(view["next_step"])
    assert room.items(BILLING, "drafts") == []


async def test_the_missing_permission_is_named() -> None:
    """Declared but not granted: the mail waits, and its next step says which permission to grant."""
    room = LargeRoom()
    room.keyring.roles = ["Mail.Send", "Mail.Read"]  # type: ignore[attr-defined]  # the room's own keyring
    await room.upload()
    await post(room, letter())
    await room.work_off()
    view = await room.status.message("m1", CALLER)
    assert (view["status"], view["code"]) == ("pending", "access_denied")
    assert "Mail.ReadWrite" in str(view["next_step"])


async def test_too_much_is_too_much() -> None:
    """One file over 150 MB, or several, are refused with the limit before a byte of them is read."""
    room, room_for = LargeRoom(), 150 * 1024 * 1024
    for name, size in (("u1", room_for + 1), ("u2", room_for), ("u3", 5_000_000)):
        room.fake.blobs[UPLOADS_CONTAINER, f"{CALLER}/{name}"] = Claimed(size, room.clock())  # type: ignore[assignment]
    for files, code, field in ((["u3", "u1"], "attachment_too_large", "attachments[1]"), (["u2", "u3"], "mail_too_large", "attachments")):
        with pytest.raises(TooLarge, match=str(room_for)) as refused:
            await room.accept.single(letter("m1", *files), CALLER, "hash")
        assert (refused.value.code, refused.value.field) == (code, field)


async def test_every_file_of_a_batch_is_its_own_slice() -> None:
    """Slices are filled by what is uploaded, too: a claim carries one large mail, not twenty."""
    room = LargeRoom()
    await room.upload()
    found = await room.accept.uploads.find([letter()], CALLER)
    lines = [Line(at, room.accept.uploads.attached(letter(f"m{at}"), found, CALLER)) for at in range(3)]
    batch = await room.accept.batch(lines, [], CALLER, "hash")
    assert batch.slices == {"billing": 3}
    await room.come_to_rest()
    assert room.copies() == [1, 1, 1]


@pytest.mark.parametrize("path", ["messages", "createUploadSession", "send"])
async def test_a_401_on_the_way_takes_a_new_token_once(path: str) -> None:
    """Wherever it comes, the token is barred, and the mail goes in the same run; what was complete is not uploaded again."""
    room = LargeRoom()
    await room.upload()
    await post(room, letter())
    room.faults.add({"service": "graph", "path": path, "answer": "401", "times": 1})
    await room.work_off()
    assert (await room.status.message("m1", CALLER))["status"] == "sent"
    assert room.keyring.barred == 1  # type: ignore[comparison-overlap]  # the room's own keyring counts
    assert room.copies() == [1]
    assert room.wire.seen.count("POST createUploadSession") == (2 if path == "createUploadSession" else 1)
    assert room.items(BILLING, "drafts") == []
