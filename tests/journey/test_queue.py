"""Plain messages that another application puts on the queue `mail-outbox`: sent once, or put aside once with the reason."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio

from sandbox.host.queues import Queue
from sandbox.host.storage import Storage, StorageFailed
from tests.journey.conftest import Town
from tests.waiting import until

pytestmark = pytest.mark.slow

ONE_TRY = 10.0  # seconds: what failed is tried again after that, so what is put aside sooner was tried once


@dataclass(frozen=True, slots=True)
class Outbox:
    """The queue, and what is put aside beside it."""

    queue: Queue
    poison: Queue

    async def put(self, body: bytes) -> None:
        await self.queue.put(base64.b64encode(body).decode())

    async def aside(self, sign: str) -> list[str]:
        """The texts put aside that hold the sign; they are gone from there then. Texts of ours are taken out of their base64."""
        found = []
        for message in await self.poison.get(32, 1):
            text = message.text if sign in message.text else base64.b64decode(message.text).decode()
            if sign in text:
                await self.poison.delete(message, message.receipt)
                found.append(text)
        return found


@pytest_asyncio.fixture
async def outbox(town: Town) -> AsyncIterator[Outbox]:
    async with httpx.AsyncClient(trust_env=False) as http:
        storage = Storage(town.told["storage"], http)
        yield Outbox(Queue(storage, "mail-outbox"), Queue(storage, "mail-outbox-poison"))


def sign() -> str:
    return f"Q{uuid.uuid4().hex[:12]}"


async def test_a_plain_message_is_sent_once(town: Town, outbox: Outbox) -> None:
    """The JSON of a mail on the queue goes as one over HTTP would; put there twice under its own id, or put back by us, it is one mail."""
    subject = sign()
    body = json.dumps(town.mail(subject=subject, id=f"order-{subject}")).encode()
    for text in (body, b"\xef\xbb\xbf" + body + b"\n", b'{"again": 1, "message": ' + body + b"}"):
        await outbox.put(text)
    await until(lambda: town.sent(subject))
    last = sign()
    await outbox.put(json.dumps(town.mail(subject=last)).encode())
    await until(lambda: town.sent(last))
    assert [row["copies"] for row in town.sent(subject)] == [1]
    assert await outbox.aside(subject) == []


def unreadable(mark: str) -> dict[str, bytes]:
    """By the code that each of them gets."""
    mail: dict[str, Any] = {"account": "billing@contoso.example", "to": ["ann@example.com"], "text": mark}
    return {
        "not_json": f"Dear {mark}, this is a letter".encode(),
        "field_unknown": json.dumps({**mail, "subjekt": "Hi"}).encode(),
        "account_unknown": json.dumps({**mail, "account": "nobody"}).encode(),
        "address_without_domain": json.dumps({**mail, "to": ["ann"]}).encode(),
        "not_json: The body is not JSON: 'utf-8'": b'{"\xff": "' + mark.encode() + b'"}',
        "not_json: The body is not JSON: JSON is malformed": (f"{mark} " + '"\x01\u20ac' * 9000).encode(),
    }


async def test_what_nobody_can_read_is_put_aside_once(town: Town, outbox: Outbox) -> None:
    """Each goes to the poison queue as {reason, original} at its first try, with a code that tells what is wrong."""
    marks = {code: sign() for code in unreadable("")}
    began = time.monotonic()
    for code, mark in marks.items():
        await outbox.put(unreadable(mark)[code])
    for code, mark in marks.items():
        [text] = await until(lambda mark=mark: outbox.aside(mark))
        told = json.loads(text)
        assert set(told) == {"reason", "original"}
        assert told["reason"].startswith(code), told["reason"]
        whole = unreadable(mark)[code].decode("utf-8", "replace")
        assert told["original"] == (whole if len(whole) < 6000 else whole[:6000])
    assert time.monotonic() - began < ONE_TRY
    assert [await outbox.aside(mark) for mark in marks.values()] == [[]] * len(marks)
    assert [row for row in town.plain.get(f"{town.told['control']}/sent").json() if row["subject"] == "Hi"] == []


async def test_bare_text_is_put_aside_by_the_host(outbox: Outbox) -> None:
    """host.json says base64: what is none never reaches the function, and lies in the poison queue as it was, soon with its reason."""
    mark = sign()
    text = f'{{"account": "billing@contoso.example", "text": "{mark}"}}'
    await outbox.queue.put(text)
    [found] = await until(lambda: outbox.aside(mark))
    assert found == text or json.loads(found)["original"] == text


async def test_a_ticket_for_nothing_holds_up_nothing(town: Town, outbox: Outbox) -> None:
    """A ticket that points to no slice is dropped; one that names what no slice can be called is put aside."""
    unknown, impossible, last = sign(), sign(), sign()
    for unit in (unknown, f"{impossible}/?"):
        await outbox.put(json.dumps({"ticket": {"account": town.billing, "unit": unit}}).encode())
    [text] = await until(lambda: outbox.aside(impossible))
    assert json.loads(text)["reason"].startswith("field_unknown")
    await outbox.put(json.dumps(town.mail(subject=last)).encode())
    await until(lambda: town.sent(last))
    assert await outbox.aside(unknown) == []


async def test_a_message_over_64_kb_is_refused_to_its_sender(town: Town, outbox: Outbox) -> None:
    """48 kB of JSON go over the queue; what is larger the queue does not take, and over HTTP the same mail goes."""
    small, large = (town.mail(id=sign(), subject=sign(), text="x" * size) for size in (47_000, 60_000))
    with pytest.raises(StorageFailed) as caught:
        await outbox.put(json.dumps(large).encode())
    assert caught.value.status == 413
    await outbox.put(json.dumps(small).encode())
    assert town.api.post("messages", json=large).json()["status"] == "sent"
    await until(lambda: town.sent(small["subject"]))
    assert [row["copies"] for mail in (small, large) for row in town.sent(mail["subject"])] == [1, 1]
