"""What of a batch did not go, for people and their spreadsheets: NDJSON or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

import msgspec

from mailroom.errors import BadInput
from mailroom.model.batch import RefusedLine
from mailroom.model.slice import Mail, Slice, Status

FAILED: frozenset[Status] = frozenset({"refused", "held"})
COLUMNS = ("line", "id", "account", "status", "code", "detail", "next_step")
FORMATS = {"ndjson": "application/x-ndjson", "csv": "text/csv"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for a formula (OWASP, CSV Injection)

View = dict[str, Any]


def of_slice(slice_: Slice) -> list[View]:
    return [_view(mail, slice_.ref.account, mail.status) for mail in slice_.mails if mail.status in FAILED]


def of_lines(lines: Iterable[RefusedLine]) -> list[View]:
    """Those that were refused when the batch was accepted."""
    return [_view(line, None, "refused") for line in lines]


def chosen(wanted: str | None, accept: str | None) -> str:
    """The format by `?format=`, else by the Accept header; raises BadInput for one that there is not."""
    if wanted is None:
        return "csv" if accept and "text/csv" in accept.lower() else "ndjson"
    if wanted.lower() not in FORMATS:
        raise BadInput("format_unknown", f"There is no format {wanted[:80]!r}.", f"Use one of {', '.join(FORMATS)}.", field="format")
    return wanted.lower()


def written(views: Iterable[View], form: str) -> bytes:
    """In the order of the lines."""
    rows = sorted(views, key=lambda view: view["line"] or 0)
    return _csv(rows) if form == "csv" else b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


def _csv(rows: Iterable[View]) -> bytes:
    """With the byte order mark by which spreadsheets know UTF-8, and no cell that they would compute."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows([_harmless(row[name]) for name in COLUMNS] for row in rows)
    return text.getvalue().encode("utf-8-sig")


def _harmless(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def _view(one: Mail | RefusedLine, account: str | None, status: Status) -> View:
    known = {"line": one.line, "id": one.id, "account": account, "status": status}
    return known | {"code": one.code, "detail": one.detail, "next_step": one.next_step}
