"""What lies in a mailbox: folders with the log that the delta query reads, items, attachments, and the names of extended properties."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sandbox.graph.errors import bad_request

WELL_KNOWN = {
    "inbox": "Inbox",
    "drafts": "Drafts",
    "sentitems": "Sent Items",
    "deleteditems": "Deleted Items",
    "outbox": "Outbox",
    "archive": "Archive",
    "junkemail": "Junk Email",
    "recoverableitemsdeletions": "Deletions",
}
HIDDEN = ("recoverableitemsdeletions",)
ROOT = "msgfolderroot"
HEADERS = "{00020386-0000-0000-c000-000000000046}"  # PS_INTERNET_HEADERS: an x- header is a named property of this set
_PROPERTY = re.compile(
    r"(?P<kind>\w+) (?:(?P<set>\{[0-9a-f-]{36}\}) (?:Name (?P<name>.+)|Id (?P<number>0x[0-9a-f]+))|(?P<tag>0x[0-9a-f]+))", re.IGNORECASE
)


@dataclass(slots=True, eq=False)
class Attachment:
    """`kind` is file, item or reference; an item's content is its MIME."""

    id: str
    name: str
    content: bytes
    content_type: str
    modified: datetime
    kind: str = "file"
    inline: bool = False
    content_id: str | None = None


@dataclass(slots=True, eq=False)
class Item:
    """A mail. `props` has Graph's names; times in it are datetimes. `arrived` is when it came into its folder, in the mailbox's count.

    `headers` are those that its sender gave beyond the usual; `mime` is the source where it came as MIME; `submitted`, by SMTP.
    """

    number: int
    id: str
    immutable_id: str
    props: dict[str, Any]
    folder: Folder
    extended: dict[str, str] = field(default_factory=dict)
    several: dict[str, list[str]] = field(default_factory=dict)
    extensions: list[dict[str, Any]] = field(default_factory=list)
    headers: list[tuple[str, str]] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    mime: bytes | None = None
    arrived: int = 0
    changed: int = 0
    received: bool = False
    submitted: bool = False

    @property
    def recipients(self) -> list[str]:
        return [address_of(one) for field_ in ("toRecipients", "ccRecipients", "bccRecipients") for one in self.props.get(field_, [])]


@dataclass(frozen=True, slots=True)
class Departure:
    """An item that left: `reason` is "changed" where it still is somewhere in the mailbox, else "deleted"."""

    at: int
    arrived: int
    id: str
    immutable_id: str
    reason: str


@dataclass(slots=True, eq=False)
class Folder:
    id: str
    name: str
    parent: str
    well_known: str | None = None
    items: dict[int, Item] = field(default_factory=dict)
    departed: dict[int, list[Departure]] = field(default_factory=dict)
    _log: list[tuple[int, int]] = field(default_factory=list)  # (count, item's number)

    @property
    def unread(self) -> int:
        return sum(not item.props["isRead"] for item in self.items.values())

    def note(self, count: int, number: int) -> None:
        self._log.append((count, number))

    def depart(self, item: Item, count: int, reason: str) -> None:
        del self.items[item.number]
        left = Departure(count, item.arrived, item.id, item.immutable_id, reason)
        self.departed.setdefault(item.number, []).append(left)
        self.note(count, item.number)

    def changed_since(self, count: int) -> list[int]:
        """The numbers of items that something happened to, each once, the latest change last."""
        start = bisect.bisect_right(self._log, (count, 1 << 62))
        return list(reversed(dict.fromkeys(number for _, number in reversed(self._log[start:]))))

    def departure(self, number: int, since: int) -> Departure | None:
        """How an item that was here at `since` left; None for one that wasn't here, or never left."""
        first = next((left for left in self.departed.get(number, ()) if left.at > since), None)
        return first if first and first.arrived <= since else None

    def newest_first(self) -> Iterator[Item]:
        return iter(sorted(self.items.values(), key=lambda item: (item.props["receivedDateTime"], item.number), reverse=True))


def address_of(recipient: dict[str, Any] | None) -> str:
    return ((recipient or {}).get("emailAddress") or {}).get("address") or ""


def person(address: str, name: str = "") -> dict[str, Any]:
    return {"emailAddress": {"name": name or address, "address": address}}


def property_id(text: str) -> str:
    """The id as Exchange compares it: only the Name part is case-sensitive."""
    found = _PROPERTY.fullmatch(text.strip())
    if found is None:
        raise bad_request(f"The extended property id '{text}' is malformed.", "ErrorInvalidExtendedProperty")
    kind = found["kind"][0].upper() + found["kind"][1:]
    if found["tag"]:
        return f"{kind} {found['tag'].lower()}"
    last = f"Name {found['name']}" if found["name"] else f"Id {(found['number'] or '').lower()}"
    return f"{kind} {found['set'].lower()} {last}"


def header_property(name: str) -> str:
    return f"String {HEADERS} Name {name}"
