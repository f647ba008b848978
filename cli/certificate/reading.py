"""Binary formats, read piece by piece: what is cut off or lies about its length is a ValueError, never a later surprise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

SEQUENCE, SET, OCTETS, OID, INTEGER, BMP = 0x30, 0x31, 0x04, 0x06, 0x02, 0x1E
EXPLICIT_0 = 0xA0


class Cursor:
    """Big-endian, as Java's DataOutput writes. `at` is where the next piece begins."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def take(self, length: int) -> bytes:
        piece = self.data[self.at : self.at + length]
        if len(piece) != length:
            raise ValueError(f"{length} bytes were to come at {self.at}, and there are {len(piece)}")
        self.at += length
        return piece

    def number(self, length: int) -> int:
        return int.from_bytes(self.take(length))

    def sized(self, length_of_length: int) -> bytes:
        return self.take(self.number(length_of_length))

    def text(self) -> str:
        """Java's modified UTF-8: U+0000 is C0 80, and what lies above U+FFFF is two surrogates (java.io.DataInput, "Modified UTF-8")."""
        raw = self.sized(2).replace(b"\xc0\x80", b"\0")
        return raw.decode("utf-8", "surrogatepass").encode("utf-16-be", "surrogatepass").decode("utf-16-be")


class Value(NamedTuple):
    """One element of DER (X.690, 8.1 and 10.1). `whole` is the element with its tag and length."""

    tag: int
    content: bytes
    whole: bytes

    def of(self, tag: int) -> Value:
        """Itself, when it is what was expected."""
        if self.tag != tag:
            raise ValueError(f"a DER element {tag:#04x} was to come, and it is {self.tag:#04x}")
        return self

    def members(self) -> list[Value]:
        return list(values(self.content))


def values(data: bytes) -> Iterator[Value]:
    """The elements that stand one after the other."""
    cursor = Cursor(data)
    while cursor.at < len(data):
        start, tag, length = cursor.at, cursor.number(1), cursor.number(1)
        if length == 0x80 or tag & 0x1F == 0x1F:
            raise ValueError("lengths without an end and tags of several bytes are not read here")
        if length > 0x80:
            length = cursor.number(length - 0x80)
        content = cursor.take(length)
        yield Value(tag, content, data[start : cursor.at])


def value(data: bytes) -> Value:
    """The one element that `data` is."""
    found = list(values(data))
    if len(found) != 1:
        raise ValueError(f"one DER element was to come, and there are {len(found)}")
    return found[0]
