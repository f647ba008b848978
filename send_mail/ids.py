"""Which ids a batch has had so far, in eight bytes each: a set of a million strings would take a hundred megabytes.

Two ids that differ have the same eight bytes once in 18 quintillion pairs (BLAKE2b, RFC 7693): a batch of a million ids names a
repetition that is none once in 37 million batches.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator

_SMALLEST = 1024


class Ids:
    """A set of names, of which only fingerprints are kept, in a table with open addressing."""

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * _SMALLEST))
        self._count = 0
        self._new = array("Q")

    def __len__(self) -> int:
        return self._count

    def __contains__(self, name: str) -> bool:
        return self._slots[self._place(_fingerprint(name))] != 0

    def add(self, name: str) -> None:
        fingerprint = _fingerprint(name)
        if self._insert(fingerprint):
            self._new.append(fingerprint)

    def take_new(self) -> bytes:
        """What was added since the last time, for `load`."""
        taken, self._new = self._new.tobytes(), array("Q")
        return taken

    def load(self, taken: bytes) -> None:
        for fingerprint in array("Q", taken):
            self._insert(fingerprint)

    def _insert(self, fingerprint: int) -> bool:
        place = self._place(fingerprint)
        if self._slots[place]:
            return False
        self._slots[place] = fingerprint
        self._count += 1
        if self._count * 3 > len(self._slots) * 2:
            self._grow()
        return True

    def _place(self, fingerprint: int) -> int:
        """Where it is, or where it would be."""
        slots, mask = self._slots, len(self._slots) - 1
        place = fingerprint & mask
        while slots[place] not in (0, fingerprint):
            place = (place + 1) & mask
        return place

    def _grow(self) -> None:
        old, self._slots = self._slots, array("Q", bytes(16 * len(self._slots)))
        for fingerprint in _taken(old):
            self._slots[self._place(fingerprint)] = fingerprint


def _taken(slots: array[int]) -> Iterator[int]:
    return (fingerprint for fingerprint in slots if fingerprint)


def _fingerprint(name: str) -> int:
    """Never 0, which is an empty slot."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) or 1
