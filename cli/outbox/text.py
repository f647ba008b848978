"""What `mailroom outbox` prints: one line for each, and what to do below it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from cli.outbox.mails import Found
from cli.outbox.poison import Letter
from mailroom.model.matter import may_have_been_sent
from mailroom.model.message import Message
from mailroom.model.slice import STATUSES, Mail

SHOWN = 100  # characters of what a message says


def account(name: str, counts: Counter[str]) -> str:
    told = ", ".join(f"{counts[status]} {_said(status)}" for status in STATUSES if counts[status])
    return f"{name}: {told or 'nothing'}"


def line(found: Found) -> Iterator[str]:
    mail = found.mail
    yield f"  {_said(mail.status):<9}  {mail.id}  {_why(mail)}".rstrip()
    if mail.next_step:
        yield f"             → {mail.next_step}"


def poison(letters: list[Letter]) -> Iterator[str]:
    yield f"poison: {len(letters)} message{'' if len(letters) == 1 else 's'}"
    for letter in letters:
        yield f"  {letter.id[:8]}   {letter.reason or 'nobody has told a reason yet: the next sweep does'}"
        yield f"             {_start(letter.original)}"


def mail(found: Found, message: Message | None) -> Iterator[str]:
    mail, slice_ = found.mail, found.slice_
    facts = {
        "id": mail.id,
        "status": _said(mail.status) + (", may have been sent" if may_have_been_sent(mail) else ""),
        "account": slice_.ref.account,
        "caller": slice_.caller,
        "batch": f"{slice_.ref.unit}, line {mail.line}" if slice_.batch else None,
        "accepted": _time(slice_.created),
        "attempts": str(mail.attempt),
        "due": _time(mail.due) if mail.due else None,
        "in doubt since": _time(mail.doubt_since) if mail.doubt_since else None,
        "code": mail.code,
        "detail": mail.detail,
        "next step": mail.next_step,
        "note": mail.note,
        "path": mail.path,
        "provider id": mail.provider_id,
        "request id": mail.request_id,
        "stamp": mail.stamp,
        "to": _to(message) if message else "its body is no longer in storage",
        "subject": message.subject if message else None,
    }
    return (f"{name:<14}  {value}" for name, value in facts.items() if value)


def letter(one: Letter) -> Iterator[str]:
    yield f"id              {one.id}"
    yield f"reason          {one.reason or 'nobody has told a reason yet: the next sweep does'}"
    yield "original"
    yield one.original.decode("utf-8", "replace")


def _why(mail: Mail) -> str:
    return f"{mail.code}: {mail.detail}" if mail.code else ""


def _said(status: str) -> str:
    return status.replace("_", " ")


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%SZ}"


def _to(message: Message) -> str:
    return _cut(", ".join(one.address for one in message.recipients))


def _start(original: bytes) -> str:
    return json.dumps(_cut(original.decode("utf-8", "replace")), ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def joined(texts: Iterable[str]) -> str:
    return "\n".join(texts)
