"""A folder: its items, and the log that the delta query reads."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field

from sandbox.graph.items import Item

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
