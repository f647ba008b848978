"""Named objects with versions, and the deleted ones that can still be recovered."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sandbox.vault.errors import deleted, disabled, not_found

RECOVERABLE_DAYS = 90


@dataclass(slots=True, kw_only=True)
class Item:
    """One version of an object. Its times are informational: what has ended can still be read."""

    name: str
    version: str = field(default_factory=lambda: uuid.uuid4().hex)
    enabled: bool = True
    starts: int | None = None
    ends: int | None = None
    created: int = 0
    updated: int = 0
    tags: dict[str, str] | None = None

    @property
    def attributes(self) -> dict[str, Any]:
        times = {"nbf": self.starts, "exp": self.ends}
        return {
            "enabled": self.enabled,
            **{name: value for name, value in times.items() if value is not None},
            "created": self.created,
            "updated": self.updated,
            "recoveryLevel": "Recoverable+Purgeable",
            "recoverableDays": RECOVERABLE_DAYS,
        }


ItemT = TypeVar("ItemT", bound=Item)


@dataclass(slots=True)
class Shelf(Generic[ItemT]):
    """Objects of one kind by name, the newest version last. Names are the same in any case."""

    kind: str
    now: Callable[[], float]
    _here: dict[str, list[ItemT]] = field(default_factory=dict)
    _deleted: dict[str, tuple[list[ItemT], int]] = field(default_factory=dict)

    def put(self, item: ItemT) -> ItemT:
        self.check_free(item.name)
        item.created = item.updated = int(self.now())
        self._here.setdefault(item.name.lower(), []).append(item)
        return item

    def check_free(self, name: str) -> None:
        if name.lower() in self._deleted:
            raise deleted(self.kind, name)

    def find(self, name: str, version: str = "") -> ItemT:
        """The newest version, or the named one."""
        for item in reversed(self._here.get(name.lower(), [])):
            if version in ("", item.version):
                return item
        raise not_found(self.kind, name)

    def get(self, name: str, version: str = "") -> ItemT:
        """As `find`, for its content: the newest version even if an older one is enabled and it is not."""
        item = self.find(name, version)
        if not item.enabled:
            raise disabled(self.kind)
        return item

    def newest(self) -> list[ItemT]:
        return [versions[-1] for _, versions in sorted(self._here.items())]

    def versions(self, name: str) -> list[ItemT]:
        return list(self._here.get(name.lower(), []))

    def delete(self, name: str) -> tuple[ItemT, int]:
        """The newest version and when it was deleted."""
        self.find(name)
        self._deleted[name.lower()] = (self._here.pop(name.lower()), int(self.now()))
        return self.find_deleted(name)

    def find_deleted(self, name: str) -> tuple[ItemT, int]:
        if name.lower() not in self._deleted:
            raise not_found(self.kind, name)
        versions, when = self._deleted[name.lower()]
        return versions[-1], when

    def recover(self, name: str) -> ItemT:
        self.find_deleted(name)
        self._here[name.lower()], _ = self._deleted.pop(name.lower())
        return self.find(name)

    def purge(self, name: str) -> None:
        self.find_deleted(name)
        del self._deleted[name.lower()]
