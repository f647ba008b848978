"""A good line of a batch: a mail that will be owed once the batch is committed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mailroom.model.message import Message


class Owed(Protocol):
    """`message` may be made anew each time it is asked for; `size` is in bytes of a request."""

    @property
    def number(self) -> int: ...
    @property
    def account(self) -> str: ...
    @property
    def id(self) -> str | None: ...
    @property
    def size(self) -> int: ...
    @property
    def recipients(self) -> int: ...
    @property
    def message(self) -> Message: ...


@dataclass(frozen=True, slots=True)
class Line:
    """One that has its message in hand."""

    number: int
    message: Message

    @property
    def account(self) -> str:
        return self.message.account

    @property
    def id(self) -> str | None:
        return self.message.id

    @property
    def size(self) -> int:
        return size_of(self.message)

    @property
    def recipients(self) -> int:
        return len(self.message.recipients)


def size_of(message: Message) -> int:
    """Bytes that the mail takes of a request, roughly: base64 makes 4 of 3."""
    texts = len(message.text or "") + len(message.html or "") + len(message.subject)
    return 1024 + 2 * texts + sum(a.length for a in message.attachments) * 4 // 3 + len(message.mime or b"") * 4 // 3
