"""Where a serialized Java object ends: a JCEKS writes its secret keys as such, without their length, between the entries that we read.

Java Object Serialization Specification, 6.4 "Grammar for the Stream Format". Nothing is built of what is read.
"""

from __future__ import annotations

from typing import NamedTuple

from cli.certificate.reading import Cursor

MAGIC = 0xACED0005
FIRST_HANDLE = 0x7E0000
NULL, REFERENCE, CLASS, OBJECT, STRING, ARRAY = 0x70, 0x71, 0x72, 0x73, 0x74, 0x75
SERIALIZABLE = 0x02
PRIMITIVES = {"B": 1, "C": 2, "D": 8, "F": 4, "I": 4, "J": 8, "S": 2, "Z": 1}
DEEPEST = 20


class _Class(NamedTuple):
    """`fields` are their type codes, with those of the superclass first, as an object's values are."""

    name: str
    fields: str


class Stream:
    """A cursor at an object's stream; `skip` leaves it behind that. Raises ValueError for what a sealed key never holds."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._handles: list[_Class | None] = []

    def skip(self) -> None:
        if self._cursor.number(4) != MAGIC:
            raise ValueError("this is no serialized Java object")
        self._content(0)

    def _content(self, depth: int) -> None:
        tag = self._cursor.number(1)
        if depth > DEEPEST:
            raise ValueError("objects in objects in objects")
        if tag == REFERENCE:
            self._referred()
        elif tag == STRING:
            self._cursor.text()
            self._handles.append(None)
        elif tag in (OBJECT, ARRAY):
            found = self._class()
            if found is None:
                raise ValueError("an object without a class")
            self._handles.append(None)
            self._array(found, depth) if tag == ARRAY else self._values(found.fields, depth)
        elif tag != NULL:
            raise ValueError(f"what begins with {tag:#04x} is in no sealed key")

    def _class(self) -> _Class | None:
        tag = self._cursor.number(1)
        if tag == NULL:
            return None
        if tag == REFERENCE:
            return self._referred()
        if tag != CLASS:
            raise ValueError(f"a class was to come, and it is {tag:#04x}")
        name, _serial, place = self._cursor.text(), self._cursor.take(8), len(self._handles)
        self._handles.append(None)
        if self._cursor.number(1) != SERIALIZABLE:
            raise ValueError(f"{name} writes itself in a way of its own")
        own = "".join(self._field() for _ in range(self._cursor.number(2)))
        if self._cursor.number(1) != 0x78:
            raise ValueError(f"{name} has annotations")
        above = self._class()
        found = _Class(name, (above.fields if above else "") + own)
        self._handles[place] = found
        return found

    def _field(self) -> str:
        code, _name = chr(self._cursor.number(1)), self._cursor.text()
        if code in "[L":
            self._content(0)  # the name of its type
        elif code not in PRIMITIVES:
            raise ValueError(f"a field of type {code!r}")
        return code

    def _array(self, found: _Class, depth: int) -> None:
        length, kind = self._cursor.number(4), found.name[1:2]
        if kind in PRIMITIVES:
            self._cursor.take(length * PRIMITIVES[kind])
        else:
            for _ in range(length):
                self._content(depth + 1)

    def _values(self, fields: str, depth: int) -> None:
        for code in fields:
            if code in PRIMITIVES:
                self._cursor.take(PRIMITIVES[code])
            else:
                self._content(depth + 1)

    def _referred(self) -> _Class | None:
        number = self._cursor.number(4) - FIRST_HANDLE
        if not 0 <= number < len(self._handles):
            raise ValueError("a reference to what was not there before")
        return self._handles[number]
