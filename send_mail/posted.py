"""The body of POST /api/batches becomes lines that may be accepted: NDJSON, a JSON array, or a template with its recipients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

import msgspec

from mailroom.errors import BadInput
from mailroom.model.batch import RefusedLine
from mailroom.model.message import Address, Attachment, Message
from send_mail import batches, parse, schedule, templates
from send_mail.accept import Accept
from send_mail.line import Line, Owed
from send_mail.recipients import named
from send_mail.spread import Spread
from send_mail.templates import Asked, Merge


@dataclass(frozen=True, slots=True)
class Posted:
    """What is good, what is not, and the attachments that all share. `asked` is the template's object where there is one."""

    lines: Sequence[Owed]
    refused: list[RefusedLine]
    shared: tuple[Attachment, ...] = ()
    asked: Asked | None = None

    def send_at(self, told: str | None, time_zone: str | None, now: float, *, keep: float = inf) -> float:
        """As the query tells it, or the template's object; 0 for at once. Raises BadInput.

        `keep` is for how many seconds uploads are kept: a mail that names one must go by then.
        """
        if self.asked is not None:
            told, time_zone = told or self.asked.send_at, time_zone or self.asked.time_zone
        if told is None and time_zone is not None:
            raise BadInput("field_missing", "There is a time_zone and no send_at.", "Add it.", field="send_at")
        when = schedule.seconds(told, time_zone, now) if told is not None else 0.0
        if when > now + keep and self._has_uploads:
            what = f"Uploaded attachments are kept for {keep / 86400:g} days, and the batch shall go later."
            raise BadInput("send_at_too_far", what, "Send the files in `content`, or the batch again when it is nearer.", field="send_at")
        return when

    @property
    def _has_uploads(self) -> bool:
        return any(one.blob for one in self.shared) if self.asked else any(line.message.uploads for line in self.lines)


@dataclass(frozen=True, slots=True)
class Poster:
    """Reads for one caller. `allow` raises Forbidden for an account that it may not use; `accounts` send what names none."""

    accept: Accept
    caller: str
    allow: Callable[[str], None]
    accounts: Sequence[str] = ()
    partial: bool = False

    async def read(self, body: bytes) -> Posted:
        """Raises BadInput, Forbidden; what blocks for long, drawing many mails, runs in a thread."""
        asked = templates.asked(body)
        accounts = (asked.accounts if asked else ()) or self.accounts
        spread = Spread(accounts, self.accept.deliver.accounts) if accounts else None
        if asked is not None:
            return await self._merged(asked, spread)
        good, refused = batches.lines(body, self._check, partial=self.partial, spread=spread)
        return Posted(*await self._attached(good, refused))

    async def _merged(self, asked: Asked, spread: Spread | None) -> Posted:
        shared = await self._pinned(parse.attachments(asked.attachments))

        def merged() -> tuple[Sequence[Owed], list[RefusedLine]]:
            return batches.merged(Merge.of(asked, shared), templates.in_time(asked.rows), self._check, partial=self.partial, spread=spread)

        return Posted(*await asyncio.to_thread(merged), shared, asked)

    async def _pinned(self, attachments: tuple[Attachment, ...]) -> tuple[Attachment, ...]:
        uploads, carrier = self.accept.uploads, Message("", attachments=attachments)
        return uploads.attached(carrier, await uploads.find([carrier], self.caller), self.caller).attachments

    async def _attached(self, good: list[Line], refused: list[RefusedLine]) -> tuple[list[Line], list[RefusedLine]]:
        """The lines with their uploads, each of which is looked up once."""
        uploads = self.accept.uploads
        found = await uploads.find((line.message for line in good), self.caller)

        def attach(message: Message) -> Message:
            ready = uploads.attached(message, found, self.caller)
            self.accept.check(ready)
            return ready

        return batches.attached(good, refused, attach, partial=self.partial)

    def _check(self, message: Message) -> None:
        self.allow(message.account)
        self.accept.check(message)


def rehearsed(posted: Posted, seconds: float, send_at: float = 0.0) -> dict[str, object]:
    """What a dry run answers: the first three mails as they would go, and how long all of them would take."""
    scheduled = {"send_at": schedule.shown(send_at)} if send_at else {}
    return {
        **scheduled,
        "count": len(posted.lines),
        "refused": [msgspec.to_builtins(line) for line in posted.refused],
        "estimated_seconds": round(seconds),
        "rendered": [shown(line.message) for line in posted.lines[:3]],
    }


def shown(message: Message) -> dict[str, object]:
    """A mail as JSON, without the bytes of its attachments; what is not set is left out."""
    view: dict[str, object] = {"account": message.account, "id": message.id, "from": message.sender and _written(message.sender)}
    for name in ("to", "cc", "bcc", "reply_to"):
        view[name] = [_written(one) for one in getattr(message, name)]
    for name in ("subject", "text", "html", "headers", "importance", "in_reply_to"):
        view[name] = getattr(message, name)
    view["attachments"] = [{"name": one.name, "type": one.type, "size": one.length} for one in message.attachments]
    return {name: value for name, value in view.items() if value}


def _written(one: Address) -> str:
    return named(one.address, one.name)
