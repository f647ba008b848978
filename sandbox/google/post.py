"""Gmail's post office: what was accepted from whom, and its delivery, at once or after a lag."""

from __future__ import annotations

import email.policy
import heapq
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from email.parser import BytesParser
from itertools import count

from sandbox.google.errors import bad, not_found
from sandbox.google.mailbox import Mail, Mailbox
from sandbox.google.workspace import Workspace
from sandbox.graph.post import Sent

_STAMP = re.compile(r"X-.*-Stamp", re.IGNORECASE)
_HEAD = re.compile(rb"\A(?:[^\r\n]+\r?\n)*")
_REPLY = re.compile(r"^\s*(re|aw|fwd?)\s*:\s*", re.IGNORECASE)


@dataclass(slots=True, eq=False)
class PostOffice:
    """Gmail gives every mail that it sends a Message-ID of its own and forgets the sender's
    (github.com/FlowCrypt/flowcrypt-browser/issues/4273); `keeps_ids` is for the years in which it did not. `elsewhere` takes what is for
    addresses outside of the domain.
    """

    workspace: Workspace
    keeps_ids: bool = False
    lag: float = 0.0
    elsewhere: Callable[[str, bytes], object] | None = None
    sent: dict[tuple[str, str], Sent] = field(default_factory=dict)
    _boxes: dict[str, Mailbox] = field(default_factory=dict)
    _late: list[tuple[float, int, Callable[[], object]]] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)

    def mailbox(self, address: str) -> Mailbox:
        self._deliver_due()
        known = self.workspace.mailbox(address)
        if known is None:
            raise not_found()
        return self._boxes.setdefault(known, Mailbox(known, self.workspace.now))

    def accept(self, box: Mailbox, raw: bytes, thread: str | None = None, lag: float = 0.0) -> Mail:
        """The copy in Sent, as the answer tells it; while it lags it can't be found."""
        recipients = _recipients(raw)
        self._count(box, raw)
        raw = _with_header(raw, "From", f"<{box.address}>") if _from(raw) != {box.address.lower()} else raw
        if not self.keeps_ids or not _named(raw):
            raw = _with_header(raw, "Message-ID", f"<CA{secrets.token_urlsafe(24)}@mail.gmail.com>")
        mail = Mail(secrets.token_hex(8), "", raw, {"SENT"}, int(self.workspace.now() * 1000))
        mail.thread = self._thread(box, mail, thread)
        self._soon(lag or self.lag, lambda: self._dispatch(box, mail, recipients))
        return mail

    def receive(self, address: str, raw: bytes) -> Mail:
        """A mail from outside."""
        named = raw if _named(raw) else _with_header(raw, "Message-ID", f"<{secrets.token_hex(12)}@outside.example>")
        return self.mailbox(address).put(named, {"INBOX", "UNREAD"})

    def _thread(self, box: Mailbox, mail: Mail, asked: str | None) -> str:
        """Only a reply by its headers and its subject joins the thread (developers.google.com/gmail/api/guides/threads)."""
        if asked is None:
            return mail.id
        members = [one for one in box.mails.values() if one.thread == asked]
        if not members:
            raise not_found()
        answers = any(one.message_id in mail.references for one in members)
        alike = any(_REPLY.sub("", one.subject) == _REPLY.sub("", mail.subject) for one in members)
        return asked if answers and alike else mail.id

    def _soon(self, lag: float, do: Callable[[], object]) -> None:
        if lag <= 0:
            do()
        else:
            heapq.heappush(self._late, (self.workspace.now() + lag, next(self._numbers), do))

    def _deliver_due(self) -> None:
        while self._late and self._late[0][0] <= self.workspace.now():
            heapq.heappop(self._late)[2]()

    def _dispatch(self, box: Mailbox, mail: Mail, recipients: set[str]) -> None:
        box.enter(mail)
        raw = _without(mail.raw, "Bcc")
        for address in sorted(recipients):
            if self.workspace.mailbox(address):
                self.receive(address, raw)
            elif self.elsewhere:
                self.elsewhere(address, raw)

    def _count(self, box: Mailbox, raw: bytes) -> None:
        head = BytesParser(policy=email.policy.compat32).parsebytes(raw, headersonly=True)
        stamp = next((str(value) for name, value in head.items() if _STAMP.fullmatch(name)), str(head["Message-ID"] or ""))
        row = self.sent.setdefault((box.address, stamp), Sent(box.address, str(head["Subject"] or ""), stamp))
        row.copies += 1


def _recipients(raw: bytes) -> set[str]:
    found = Mail("", "", raw, set(), 0).people("To", "Cc", "Bcc")
    if not found:
        raise bad("Recipient address required")
    wrong = sorted(one for one in found if not re.fullmatch(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+", one))
    if wrong:
        raise bad("Invalid To header")
    return found


def _from(raw: bytes) -> set[str]:
    return Mail("", "", raw, set(), 0).people("From")


def _named(raw: bytes) -> str:
    return Mail("", "", raw, set(), 0).message_id


def _without(raw: bytes, name: str) -> bytes:
    """Only in the head: a mail may quote one in its body."""
    head = _HEAD.match(raw)
    end = head.end() if head else 0
    line = re.compile(rb"^" + name.encode() + rb"[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*", re.IGNORECASE | re.MULTILINE)
    return line.sub(b"", raw[:end]) + raw[end:]


def _with_header(raw: bytes, name: str, value: str) -> bytes:
    return f"{name}: {value}\r\n".encode() + _without(raw, name)
