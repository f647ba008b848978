"""A part of a blob becomes numbered lines: NDJSON, or CSV with a header line. Where a portion ends hangs on the bytes alone.

So whoever does a portion again, after somebody was killed in the middle of it, finds the same lines in it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mailroom.errors import BadInput, StorageConflict
from mailroom.model.places import UPLOADS_CONTAINER
from mailroom.ports import Store
from send_mail.recipients import Row, columns_of, delimiter_of, row_of, unreadable

PORTION = 4 * 1024 * 1024  # bytes; no line may have more
LINES = 5000
HEAD = 64 * 1024  # bytes in which the header of CSV must end

T = TypeVar("T")
_BOM = b"\xef\xbb\xbf"


@dataclass
class Window:
    """The blob's bytes from some place on; what was read and not used yet is kept."""

    store: Store
    name: str
    size: int
    etag: str
    _start: int = 0
    _held: bytes = field(default=b"", repr=False)

    async def read(self, offset: int, length: int) -> bytes:
        """So many bytes, or fewer where the blob ends. Raises BadInput when it is gone or another one."""
        held = self._held[offset - self._start :] if self._start <= offset <= self._start + len(self._held) else b""
        while len(held) < min(length, self.size - offset):
            held += await self._part(offset + len(held), max(PORTION, length))
        self._start, self._held = offset, held
        return held[:length]

    async def _part(self, start: int, length: int) -> bytes:
        try:
            part = await self.store.read_blob(UPLOADS_CONTAINER, self.name, start, length, etag=self.etag)
        except StorageConflict as error:
            what = "The upload was changed while its batch was accepted."
            raise BadInput("upload_changed", what, "Upload each batch under a name of its own.", field="blob") from error
        if not part:
            raise BadInput("upload_missing", "The upload is gone.", "Upload it again, and send the batch again.", field="blob")
        return part


@dataclass(frozen=True, slots=True)
class Head:
    """Where the lines begin: `offset` bytes and `line` lines from the start. CSV has columns and their delimiter."""

    offset: int = 0
    line: int = 0
    columns: tuple[str, ...] = ()
    delimiter: str = ","


@dataclass(frozen=True, slots=True)
class Portion(Generic[T]):
    """Some lines with their numbers in the blob; `length` bytes and `lines` lines (also blank ones) are done with them."""

    items: Sequence[tuple[int, T]]
    length: int
    lines: int


def ndjson_head(start: bytes) -> Head:
    """Of the blob's first bytes. Raises BadInput."""
    offset = len(_BOM) if start.startswith(_BOM) else 0
    if start[offset:].lstrip()[:1] == b"[":
        raise BadInput("not_ndjson", "The upload holds a JSON array.", "Put one object on each line, without commas between.", field="blob")
    return Head(offset)


def csv_head(start: bytes, *, last: bool) -> Head:
    """Of the blob's first bytes; `last` when it has no more. Raises BadInput."""
    offset = len(_BOM) if start.startswith(_BOM) else 0
    window = start[offset:]
    window = window if last else window[: _whole(window)]
    delimiter = delimiter_of(window.decode("utf-8", "replace"))
    for cells, used, line in _records(window, 0, delimiter, last=last):
        if cells:
            return Head(offset + used, line, tuple(columns_of(cells)), delimiter)
    columns_of([])
    raise AssertionError("no columns are an error")


def ndjson(window: bytes, line: int, *, last: bool, most: int = LINES) -> Portion[bytes]:
    """Its first lines; `line` counts those before it. Raises BadInput where one is too long."""
    texts = window[: len(window) if last else _whole(window)].splitlines(keepends=True)[:most]
    if not texts:
        raise _too_long(line + 1)
    items = [(number, text) for number, text in enumerate(texts, line + 1) if text.strip()]
    return Portion(items, sum(map(len, texts)), len(texts))


def csv_rows(window: bytes, line: int, head: Head, *, last: bool, most: int = LINES) -> Portion[Row]:
    """Its first records; a number is that of the line on which a record begins. Raises BadInput where the text can't be read on."""
    items: list[tuple[int, Row]] = []
    length, lines = 0, 0
    for cells, used, at in _records(window[: len(window) if last else _whole(window)], line, head.delimiter, last=last):
        if cells:
            items.append((line + lines + 1, row_of(cells, head.columns)))
        length, lines = used, at - line
        if len(items) == most:
            break
    if not length:
        raise _too_long(line + 1)
    return Portion(items, length, lines)


def _records(window: bytes, line: int, delimiter: str, *, last: bool) -> Iterator[tuple[list[str], int, int]]:
    """The cells of each, how many bytes are read by then, and its last line. One that goes on behind the window is left out."""
    fed = 0

    def feed() -> Iterator[str]:
        nonlocal fed
        for text in window.splitlines(keepends=True):
            fed += len(text)
            yield text.decode()

    reader = csv.reader(feed(), delimiter=delimiter, strict=True)
    used = 0
    while True:
        begins = line + reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except UnicodeDecodeError as error:
            what = f"line {line + reader.line_num + 1}: The line is not UTF-8."
            raise BadInput("csv_not_utf8", what, "Save the table as CSV UTF-8.", field=f"line {begins}") from error
        except csv.Error as error:
            if used and fed == len(window) and not last:
                return
            raise unreadable(begins, error) from error
        used = fed
        yield cells, used, line + reader.line_num


def _whole(window: bytes) -> int:
    """How many of the bytes are whole lines. A CR at the end may be half of a CRLF."""
    return max(window.rfind(b"\n"), window.rfind(b"\r", 0, max(len(window) - 1, 0))) + 1


def _too_long(line: int) -> BadInput:
    what = f"line {line}: The line has more than {PORTION} bytes."
    return BadInput("line_too_long", what, "Upload large attachments on their own, and name them as `blob`.", field=f"line {line}")
