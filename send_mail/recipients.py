"""Whom a template is filled in for: JSON objects, or CSV with a header line as spreadsheets write it (RFC 4180, and their other commas)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from mailroom.errors import BadInput

DELIMITERS = ",;\t"

Row = dict[str, Any] | BadInput
_object = msgspec.json.Decoder(dict[str, Any]).decode


def from_json(recipients: Sequence[msgspec.Raw]) -> Iterator[tuple[int, Row]]:
    """Each recipient's variables, or why it has none, with its place in the array, counted from 1."""
    for number, raw in enumerate(recipients, 1):
        try:
            yield number, _object(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            yield number, BadInput("recipient_invalid", f"The recipient can't be read: {error}.", 'Give an object: {"name": "Ann", …}.')


def from_csv(text: str) -> Iterator[tuple[int, Row]]:
    """Each record's cells by their column, with the line on which it begins. Raises BadInput where the text can't be read on."""
    records = _records(text.removeprefix("\ufeff"))
    _, header = next(records, (1, []))
    columns = columns_of(header)
    for line, cells in records:
        yield line, row_of(cells, columns)


def row_of(cells: Sequence[str], columns: Sequence[str]) -> Row:
    if len(cells) > len(columns) and any(cells[len(columns) :]):
        what = f"The line has {len(cells)} cells, the header {len(columns)}."
        return BadInput("csv_cells_too_many", what, "Put a cell that holds a comma in quotes.")
    return dict(zip(columns, cells, strict=False))  # what is missing at the end is missing when the template asks for it, and named then


def _records(text: str) -> Iterator[tuple[int, list[str]]]:
    """With the line on which each begins; blank lines are none."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(text), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise unreadable(line, error) from error
        if cells:
            yield line, cells


def delimiter_of(text: str) -> str:
    """The one that stands most often in the header line: where a comma is the decimal point, spreadsheets write semicolons."""
    header = text.lstrip("\r\n").partition("\n")[0]
    return max(DELIMITERS, key=header.count)


def unreadable(line: int, error: csv.Error) -> BadInput:
    if "field limit" in str(error):
        what = f"line {line}: A cell has more than {csv.field_size_limit()} characters."
        return BadInput("csv_cell_too_long", what, "A quote that is never closed makes such a cell, too.", field=f"csv: line {line}")
    what = f"line {line}: This is not CSV: {error}."
    return BadInput(
        "csv_invalid", what, "A quote within quotes is written twice, and each that opens is closed.", field=f"csv: line {line}"
    )


def columns_of(header: Sequence[str]) -> list[str]:
    """Raises BadInput."""
    columns = [name.strip() for name in header]
    while columns and not columns[-1]:  # spreadsheets write commas behind the last column
        columns.pop()
    if not columns:
        raise BadInput("csv_header_missing", "The CSV has no header line.", "Name the columns on its first line.", field="csv")
    if "" in columns:
        what = f"Column {columns.index('') + 1} has no name."
        raise BadInput("csv_column_unnamed", what, "Give each column a name on the first line.", field="csv")
    repeated = next((name for at, name in enumerate(columns) if name in columns[:at]), None)
    if repeated is not None:
        what = f"Column {repeated!r} stands there twice."
        raise BadInput("csv_column_repeated", what, "Give each column a name of its own.", field="csv")
    return columns


def named(address: str, name: str) -> str:
    """`{{ email|named(name) }}`: the name quoted, so that commas and quotes in it change nothing (RFC 5322, 3.2.4)."""
    quoted = str(name).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}" <{address}>' if quoted else str(address)
