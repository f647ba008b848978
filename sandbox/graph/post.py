"""The post office: every mailbox of the tenant, what was accepted from whom, and its delivery, at once or after a lag."""

from __future__ import annotations

import copy
import heapq
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate, make_msgid
from itertools import count
from typing import Any

from sandbox.directory import Directory
from sandbox.graph import ids, mime
from sandbox.graph.errors import GraphError
from sandbox.graph.items import Item
from sandbox.graph.mailbox import Mailbox

_STAMP_PROPERTY = re.compile(r" Name .*Stamp$")
_STAMP_HEADER = re.compile(r"X-.*-Stamp", re.IGNORECASE)


@dataclass(slots=True)
class Sent:
    """What one mailbox sent under one stamp, and how often that was accepted."""

    mailbox: str
    subject: str
    stamp: str
    copies: int = 0


@dataclass(slots=True, eq=False)
class PostOffice:
    """`lag` is how many seconds pass until an accepted mail shows, where the request's own fault says nothing else."""

    directory: Directory
    lag: float = 0.0
    elsewhere: Callable[[str, bytes], object] | None = None  # takes what is for addresses outside of the tenant
    sent: dict[tuple[str, str], Sent] = field(default_factory=dict)
    _mailboxes: dict[str, Mailbox] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)
    _numbers: count[int] = field(default_factory=lambda: count(1))
    _late: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)

    def mailbox(self, key: str) -> Mailbox:
        """By address or object id."""
        self.deliver_due()
        found = self._known(key)
        if found is None:
            raise GraphError(404, "ErrorInvalidUser", f"The requested user '{key}' is invalid.")
        return found

    def name(self, key: str) -> str:
        """One for all that a mailbox is known by."""
        box = self._known(key)
        return box.address if box else key.lower()

    def all(self) -> list[Mailbox]:
        self.deliver_due()
        return [box for address in sorted(self.directory.mailboxes) if (box := self._known(address))]

    def accept(self, box: Mailbox, item: Item, *, keep: bool = True, lag: float = 0.0) -> None:
        """Takes a complete draft for sending. While it waits it lies in the Outbox, still a draft."""
        lag = lag or self.lag
        item.props.setdefault("internetMessageId", None)
        item.props["internetMessageId"] = item.props["internetMessageId"] or make_msgid(domain=box.address.partition("@")[2])
        self._count(box, item)
        if lag <= 0:
            self._dispatch(box, item, keep)
            return
        box.move(item, "outbox")
        heapq.heappush(self._late, (self.directory.now() + lag, next(self._numbers), lambda: self._dispatch_late(box, item, keep)))

    def deliver_due(self) -> None:
        while self._late and self._late[0][0] <= self.directory.now():
            heapq.heappop(self._late)[2]()

    def receive(self, address: str, raw: bytes) -> Item:
        """A mail from outside."""
        box = self.mailbox(address)
        raw = mime.complete(raw, {"Message-ID": make_msgid(domain="outside.example"), "Date": formatdate(self.directory.now())})
        read = mime.read(raw)
        props = {**mime.DEFAULTS, **read.props, "receivedDateTime": box.time(), "isRead": False, "isDraft": False}
        item = box.put("inbox", props, extended=read.extended, headers=read.headers, mime=raw, received=True)
        item.attachments = mime.attachments(read, item)
        finish(box, item)
        return item

    def _known(self, key: str) -> Mailbox | None:
        wanted = key.lower()
        if wanted not in self._mailboxes:
            for address in self.directory.mailboxes - self._seen:
                box = Mailbox(address, self.directory.now, self._numbers)
                self._mailboxes |= {address.lower(): box, ids.object_id(address): box}
                self._seen.add(address)
        return self._mailboxes.get(wanted)

    def _count(self, box: Mailbox, item: Item) -> None:
        stamp = stamp_of(item)
        row = self.sent.setdefault((box.address, stamp), Sent(box.address, item.props.get("subject") or "", stamp))
        row.copies += 1

    def _dispatch_late(self, box: Mailbox, item: Item, keep: bool) -> None:
        """Unless somebody took it out of the Outbox."""
        if box.folder("outbox").items.get(item.number) is item:
            self._dispatch(box, item, keep)

    def _dispatch(self, box: Mailbox, item: Item, keep: bool) -> None:
        now = box.time()
        item.props.update(sentDateTime=now, receivedDateTime=now, isDraft=False, isRead=True)
        for address in dict.fromkeys(address.lower() for address in item.recipients):
            to = self._known(address)
            if to:
                self._deliver(item, to)
            elif self.elsewhere:
                self.elsewhere(address, _shown(item, mime.source(item)))
        if not keep:
            box.purge(item)
            return
        box.move(item, "sentitems")
        finish(box, item)

    def _deliver(self, item: Item, to: Mailbox) -> None:
        props: dict[str, Any] = {
            **copy.deepcopy(item.props),
            "bccRecipients": [],
            "isRead": False,
            "receivedDateTime": to.time(),
            "categories": [],
        }
        props.pop("flag", None)
        raw = _shown(item, item.mime) if item.mime is not None else None
        parts = {"extended": dict(item.extended), "headers": list(item.headers), "attachments": list(item.attachments), "mime": raw}
        finish(to, to.put("inbox", {**mime.DEFAULTS, **props}, received=True, **parts))


def _shown(item: Item, raw: bytes) -> bytes:
    """To its recipients: without Bcc. By SMTP the envelope says whom a mail is for, and its client alone decides what stands in it."""
    return raw if item.submitted else mime.without_bcc(raw)


def stamp_of(item: Item) -> str:
    """What tells this mail from all others: its sender's stamp where there is one."""
    named = next((value for name, value in item.extended.items() if _STAMP_PROPERTY.search(name)), None)
    header = next((value for name, value in item.headers if _STAMP_HEADER.fullmatch(name)), None)
    return named or header or str(item.props["internetMessageId"])


def finish(box: Mailbox, item: Item) -> None:
    """What Exchange works out by itself."""
    thread = next((value for name, value in item.headers if name.lower() in ("references", "in-reply-to")), None)
    first = thread.split()[0] if thread and thread.split() else item.props.get("internetMessageId") or item.immutable_id
    item.props.setdefault("conversationId", ids.conversation_id(box.address, first))
    box.touch(item)
