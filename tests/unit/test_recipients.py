"""Whom a template is filled in for: JSON objects, and CSV as spreadsheets write it."""

from __future__ import annotations

import csv
import io
from email.utils import getaddresses

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom.errors import BadInput
from send_mail.recipients import from_csv, from_json, named


def refusal(text: str) -> BadInput:
    with pytest.raises(BadInput) as caught:
        list(from_csv(text))
    return caught.value


def test_a_line_is_a_recipient() -> None:
    """Cells under their columns, with the line that an editor shows; blank lines are nobody."""
    assert list(from_csv("name,email\nAnn,ann@x.example\n\nBob,bob@x.example\n")) == [
        (2, {"name": "Ann", "email": "ann@x.example"}),
        (4, {"name": "Bob", "email": "bob@x.example"}),
    ]


def test_a_spreadsheets_export_is_read_as_it_is() -> None:
    """A byte order mark, CR LF, quotes, doubled quotes, line breaks within quotes, and commas behind the last column."""
    text = '\ufeff"name",note,\r\n"Ann ""A"" Lee","one\r\ntwo, three",\r\nBob,,\r\n'
    assert list(from_csv(text)) == [
        (2, {"name": 'Ann "A" Lee', "note": "one\r\ntwo, three"}),
        (4, {"name": "Bob", "note": ""}),
    ]


@pytest.mark.parametrize("comma", [",", ";", "\t"])
def test_the_comma_is_the_headers(comma: str) -> None:
    """Where a comma is the decimal point, spreadsheets put semicolons between cells."""
    assert list(from_csv(f"name{comma}price\nAnn{comma}5.00\n")) == [(2, {"name": "Ann", "price": "5.00"})]


def test_a_cell_of_ten_thousand_characters_is_a_cell() -> None:
    """And one that is never closed is told with the line on which it began."""
    long = "x" * 10_000
    assert list(from_csv(f'name,note\nAnn,"{long}"\n')) == [(2, {"name": "Ann", "note": long})]
    error = refusal('name,note\nAnn,ok\nBob,"' + "x\n" * 100_000)
    assert (error.code, error.field) == ("csv_cell_too_long", "csv: line 3")
    assert "131072" in error.detail


@pytest.mark.parametrize("text", ['name\n"Ann', 'name\n"An"n\n'])
def test_a_quote_that_is_wrong_is_named_with_its_line(text: str) -> None:
    """Nobody guesses where a cell ends."""
    error = refusal(text)
    assert (error.code, error.field) == ("csv_invalid", "csv: line 2")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "csv_header_missing"),
        ("\n\n", "csv_header_missing"),
        (",,\nx", "csv_header_missing"),
        ("a,,b\n", "csv_column_unnamed"),
        ("a,b, a \n", "csv_column_repeated"),
    ],
)
def test_a_header_that_names_no_columns_is_refused(text: str, code: str) -> None:
    """Missing, unnamed and repeated columns."""
    assert refusal(text).code == code


def test_too_many_cells_are_that_lines_mistake() -> None:
    """A comma that was not quoted moves what follows: better told than sent. Too few leave variables missing."""
    (first, short), (second, long) = from_csv("name,email\nAnn\nLee, Bob,bob@x.example\n")
    assert (first, short, second) == (2, {"name": "Ann"}, 3)
    assert isinstance(long, BadInput)
    assert long.code == "csv_cells_too_many"


def test_a_json_recipient_is_an_object() -> None:
    """Whatever else stands in the array is that place's mistake alone."""
    (one, ann), (two, bad), (three, worse) = from_json([msgspec.Raw(b'{"n": 1.5}'), msgspec.Raw(b"7"), msgspec.Raw(b'{"n": "\xff"}')])
    assert (one, ann, two, three) == (1, {"n": 1.5}, 2, 3)
    assert [error.code for error in (bad, worse) if isinstance(error, BadInput)] == ["recipient_invalid"] * 2


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@given(st.lists(st.lists(cells, min_size=2, max_size=2), max_size=5))
def test_whatever_a_writer_writes_is_read(rows: list[list[str]]) -> None:
    """Every cell comes back as it was, whatever stands in it."""
    there = io.StringIO(newline="")
    csv.writer(there).writerows([["a", "b"], *rows])
    assert [row for _, row in from_csv(there.getvalue())] == [{"a": a, "b": b} for a, b in rows]


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20))
def test_a_quoted_name_is_one_address(name: str) -> None:
    """Commas, quotes and angle brackets in a name never make a second recipient."""
    assert [spec for _, spec in getaddresses([named("ann@example.com", name)])] == ["ann@example.com"]
