"""One mailbox: its folders and items, and the indexes that make a question for a stamp fast."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

from sandbox.graph import ids
from sandbox.graph.errors import GraphError, bad_request, not_found
from sandbox.graph.items import HIDDEN, ROOT, WELL_KNOWN, Folder, Item, person


@dataclass(slots=True, eq=False)
class Mailbox:
    """`numbers` are the post office's, so that no two items anywhere share an id; `count` rises with each change."""

    address: str
    now: Callable[[], float]
    numbers: count[int]
    folders: dict[str, Folder] = field(default_factory=dict)
    count: int = 0
    _by_id: dict[str, Item] = field(default_factory=dict)
    _index: dict[tuple[str, str], dict[int, Item]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for known, name in WELL_KNOWN.items():
            self.add_folder(name, ROOT, known)

    @property
    def owner(self) -> dict[str, Any]:
        return person(self.address, self.address.partition("@")[0].replace(".", " ").title())

    def time(self) -> datetime:
        return datetime.fromtimestamp(self.now(), UTC)

    def add_folder(self, name: str, parent: str, well_known: str | None = None) -> Folder:
        folder = Folder(ids.folder_id(self.address, next(self.numbers)), name, parent, well_known)
        self.folders[folder.id] = folder
        return folder

    def folder(self, key: str) -> Folder:
        """By id or well-known name."""
        found = self.folders.get(key) or next((f for f in self.folders.values() if f.well_known == key.lower()), None)
        if found is None:
            raise _unknown(key)
        return found

    def item(self, key: str) -> Item:
        """By either kind of id, whatever the request prefers."""
        found = self._by_id.get(key)
        if found is None:
            raise _unknown(key)
        return found

    def everything(self) -> list[Item]:
        return [item for folder in self.folders.values() if folder.well_known not in HIDDEN for item in folder.items.values()]

    def put(self, folder: str | Folder, props: dict[str, Any], **parts: Any) -> Item:
        """A new item."""
        target = folder if isinstance(folder, Folder) else self.folder(folder)
        number, now = next(self.numbers), self.time()
        props = {"receivedDateTime": now, "sentDateTime": now, **props, "createdDateTime": now, "lastModifiedDateTime": now}
        item = Item(number, ids.item_id(self.address, number), ids.immutable_id(self.address, number), props, target, **parts)
        self._by_id[item.immutable_id] = item
        self._enter(item, target)
        self._note(item)
        return item

    def move(self, item: Item, folder: str | Folder) -> Item:
        """Its id changes, its immutable id does not."""
        target = folder if isinstance(folder, Folder) else self.folder(folder)
        self._leave(item, "changed")
        item.id = ids.item_id(self.address, next(self.numbers))
        self._enter(item, target)
        return item

    def delete(self, item: Item) -> None:
        """As Outlook does: to Deleted Items, and from there out of sight."""
        gone = item.folder.well_known == "deleteditems"
        self.move(item, "recoverableitemsdeletions" if gone else "deleteditems")

    def purge(self, item: Item) -> None:
        self._leave(item, "deleted")
        del self._by_id[item.immutable_id]

    def touch(self, item: Item) -> None:
        """Call it after a change."""
        self.count += 1
        item.changed = self.count
        item.props["lastModifiedDateTime"] = self.time()
        item.folder.note(self.count, item.number)
        self._note(item)

    def with_value(self, name: str, value: str) -> Iterable[Item]:
        """The items with this extended property, or this `internetMessageId`; compared as Exchange does, ignoring case."""
        return self._index.get((name, value.lower()), {}).values()

    def _enter(self, item: Item, folder: Folder) -> None:
        self.count += 1
        item.folder, item.arrived, item.changed = folder, self.count, self.count
        folder.items[item.number] = item
        folder.note(self.count, item.number)
        self._by_id[item.id] = item

    def _leave(self, item: Item, reason: str) -> None:
        self.count += 1
        item.folder.depart(item, self.count, reason)
        del self._by_id[item.id]
        if reason == "deleted":
            for entry in _values(item):
                self._index.get(entry, {}).pop(item.number, None)

    def _note(self, item: Item) -> None:
        """Entries are only ever added; who asks the index checks the item."""
        for entry in _values(item):
            self._index.setdefault(entry, {})[item.number] = item


def _values(item: Item) -> list[tuple[str, str]]:
    named = [("internetMessageId", item.props.get("internetMessageId") or "")]
    return [(name, value.lower()) for name, value in [*named, *item.extended.items()] if value]


def _unknown(key: str) -> GraphError:
    return not_found() if ids.well_formed(key) else bad_request("Id is malformed.", "ErrorInvalidIdMalformed")
