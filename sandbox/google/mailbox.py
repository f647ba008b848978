"""One Gmail mailbox: mails with their labels and threads, and the history of what was added to it."""

from __future__ import annotations

import email.policy
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from email.utils import getaddresses

SYSTEM_LABELS = ("INBOX", "SENT", "DRAFT", "SPAM", "TRASH", "UNREAD", "STARRED", "IMPORTANT")
HIDDEN = frozenset({"SPAM", "TRASH"})


@dataclass(slots=True, eq=False)
class Mail:
    """`date` is in milliseconds since the epoch, `history` the last change."""

    id: str
    thread: str
    raw: bytes
    labels: set[str]
    date: int
    history: int = 0
    head: Message = field(init=False)

    def __post_init__(self) -> None:
        self.head = BytesParser(policy=email.policy.compat32).parsebytes(self.raw, headersonly=True)

    @property
    def message_id(self) -> str:
        return str(self.head["Message-ID"] or "").strip()

    @property
    def subject(self) -> str:
        return str(self.head["Subject"] or "")

    def people(self, *fields: str) -> set[str]:
        values = [str(value) for name in fields for value in self.head.get_all(name, [])]
        return {address.lower() for _, address in getaddresses(values) if address}

    @property
    def references(self) -> list[str]:
        return f"{self.head['References'] or ''} {self.head['In-Reply-To'] or ''}".split()


@dataclass(frozen=True, slots=True)
class Change:
    """`kind` is messageAdded or labelAdded, as history.list names them."""

    id: int
    kind: str
    mail: Mail
    labels: frozenset[str] = frozenset()


@dataclass(slots=True, eq=False)
class Mailbox:
    """`count` is the newest history id; those before `oldest` are forgotten."""

    address: str
    now: Callable[[], float]
    mails: dict[str, Mail] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)  # id -> name, the user's own
    changes: list[Change] = field(default_factory=list)
    count: int = 1000
    oldest: int = 0

    def put(self, raw: bytes, labels: set[str], thread: str | None = None) -> Mail:
        new_id = secrets.token_hex(8)
        mail = Mail(new_id, thread or new_id, raw, labels, int(self.now() * 1000))
        mail.thread = thread or self._thread_of(mail) or new_id
        return self.enter(mail)

    def enter(self, mail: Mail) -> Mail:
        self.mails[mail.id] = mail
        self._note("messageAdded", mail, frozenset(mail.labels))
        return mail

    def add_label(self, mail: Mail, label: str) -> None:
        mail.labels.add(label)
        self._note("labelAdded", mail, frozenset({label}))

    def delete(self, mail: Mail) -> None:
        self.count += 1 + secrets.randbelow(40)
        del self.mails[mail.id]

    def forget(self) -> None:
        """As after a week: what was given out as history id until now is too old."""
        self.count += 1 + secrets.randbelow(40)
        self.changes.clear()
        self.oldest = self.count

    def newest_first(self) -> Iterator[Mail]:
        return iter(list(reversed(self.mails.values())))

    def with_message_id(self, message_id: str) -> Mail | None:
        return next((mail for mail in self.mails.values() if mail.message_id.strip("<>") == message_id.strip("<>")), None)

    def _thread_of(self, mail: Mail) -> str | None:
        found = (self.with_message_id(one) for one in mail.references)
        return next((one.thread for one in found if one), None)

    def _note(self, kind: str, mail: Mail, labels: frozenset[str]) -> None:
        """Ids rise, with gaps."""
        self.count += 1 + secrets.randbelow(40)
        mail.history = self.count
        self.changes.append(Change(self.count, kind, mail, labels))
