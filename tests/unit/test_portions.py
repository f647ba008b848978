"""A blob becomes numbered lines, the same ones wherever its portions end."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom.errors import BadInput
from mailroom.model.places import UPLOADS_CONTAINER
from send_mail import portions
from send_mail.portions import Head, Window
from send_mail.recipients import Row, from_csv
from tests.fakes import FakeStore

ends = st.sampled_from([b"\n", b"\r\n", b"\r"])


def texts(body: bytes, window: int, most: int = 3) -> list[tuple[int, bytes]]:
    """All lines of the body in portions, none of which sees more than so many bytes."""
    found: list[tuple[int, bytes]] = []
    offset = line = 0
    while offset < len(body):
        piece = body[offset : offset + window]
        portion = portions.ndjson(piece, line, last=offset + len(piece) == len(body), most=most)
        found += portion.items
        offset, line = offset + portion.length, line + portion.lines
    return found


@given(st.lists(st.tuples(st.sampled_from([b"", b" ", b"a", b"bb", b"{}"]), ends), max_size=12), st.integers(6, 30))
def test_lines_are_those_of_the_whole(parts: list[tuple[bytes, bytes]], window: int) -> None:
    """Numbers are what an editor shows, also where a CR LF is cut in half; blank lines count and are none."""
    body = b"".join(text + end for text, end in parts)
    whole = [(number, text) for number, text in enumerate(body.splitlines(), 1) if text.strip()]
    assert [(number, text.strip(b"\r\n")) for number, text in texts(body, window)] == whole


def test_a_line_that_is_longer_than_a_portion_is_named() -> None:
    """With its number, and what to do."""
    with pytest.raises(BadInput) as caught:
        texts(b"short\n" + b"x" * 100 + b"\n", 20)
    assert (caught.value.code, caught.value.field) == ("line_too_long", "line 2")


def rows(body: bytes, window: int, most: int = 2) -> list[tuple[int, Row]]:
    head = portions.csv_head(body[:window], last=window >= len(body))
    found: list[tuple[int, Row]] = []
    offset, line = head.offset, head.line
    while offset < len(body):
        piece = body[offset : offset + window]
        portion = portions.csv_rows(piece, line, head, last=offset + len(piece) == len(body), most=most)
        found += portion.items
        offset, line = offset + portion.length, line + portion.lines
    return found


cells = st.lists(st.text(st.sampled_from('a,;"\n\r ü\u2028'), max_size=6), min_size=2, max_size=2)


@given(st.lists(cells, max_size=8), st.sampled_from(["\r\n", "\n"]), st.integers(80, 160), st.booleans())
def test_records_are_those_of_the_whole(table: list[list[str]], end: str, window: int, bom: bool) -> None:
    """Quotes, line breaks in cells and a byte order mark, wherever a portion is cut: the same records, on the same lines."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([["name", "text"], *table])
    body = ("\ufeff" if bom else "").encode() + text.getvalue().encode()
    assert rows(body, window) == list(from_csv(text.getvalue()))


def test_a_record_without_an_end_is_named() -> None:
    """At the end of the blob, and in the middle where its portion is full."""
    for body in (b'name,text\na,b\n"c,d\n', b'name,text\na,b\n"c,d\n' + b"e,f\n" * 40):
        with pytest.raises(BadInput) as caught:
            rows(body, 64)
        assert (caught.value.code, caught.value.field) == ("csv_invalid", "csv: line 3")


def test_ten_thousand_characters_fit_a_cell() -> None:
    """And one that is too long is named."""
    body = b"name,text\nann," + b"x" * 10_000 + b"\n"
    [(line, row)] = rows(body, len(body))
    assert isinstance(row, dict)
    assert (line, len(row["text"])) == (2, 10_000)
    with pytest.raises(BadInput) as caught:
        rows(b"name,text\nann," + b"x" * 140_000 + b"\n", 200_000)
    assert caught.value.code == "csv_cell_too_long"


def test_the_head_tells_columns_and_delimiter() -> None:
    """Blank lines in front of it count; what follows is not looked at."""
    assert portions.csv_head(b"\n\nname;text\nann", last=False) == Head(12, 3, ("name", "text"), ";")
    assert portions.ndjson_head(b"\xef\xbb\xbf{}") == Head(3)


async def test_a_window_reads_nothing_twice() -> None:
    """What was read and is not used yet is kept; what another upload holds is refused."""
    store = FakeStore()
    await store.put_blob(UPLOADS_CONTAINER, "crm/u1", bytes(range(256)) * 64)
    found = await store.find_blob(UPLOADS_CONTAINER, "crm/u1")
    assert found is not None
    window = Window(store, "crm/u1", found.size, found.etag)
    for offset in (0, 10, 10, 4000, 16_000):
        assert await window.read(offset, 300) == (bytes(range(256)) * 64)[offset : offset + 300]
    assert store.calls.count("read_blob") == 1
    await store.put_blob(UPLOADS_CONTAINER, "crm/u1", b"other")
    with pytest.raises(BadInput) as caught:
        await Window(store, "crm/u1", found.size, found.etag).read(0, 10)
    assert caught.value.code == "upload_changed"
    await store.delete_blob(UPLOADS_CONTAINER, "crm/u1")
    with pytest.raises(BadInput) as caught:
        await Window(store, "crm/u1", found.size, found.etag).read(0, 10)
    assert caught.value.code == "upload_missing"
