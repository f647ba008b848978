"""A batch's bytes become lines: a JSON array, or NDJSON with one message a line. A bad line is named."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import msgspec

from mailroom.errors import BadInput, MailroomError
from mailroom.model.batch import RefusedLine
from mailroom.model.message import Message
from send_mail import parse
from send_mail.line import Line
from send_mail.recipients import Row
from send_mail.spread import Spread
from send_mail.templates import Merge, Merged

L = TypeVar("L")


class Seen(Protocol):
    """A set of ids."""

    def __contains__(self, name: str, /) -> bool: ...
    def add(self, name: str, /) -> None: ...


def lines(
    body: bytes, check: Callable[[Message], object], *, partial: bool, spread: Spread | None = None
) -> tuple[list[Line], list[RefusedLine]]:
    """The good lines, and the refused ones. Without `partial` the first bad line raises, named in `field`.

    `check` raises for a message that is well-formed but may not be sent, such as one of an account the caller may not use.
    `spread` says who sends a line that names no account.
    """
    next_account = spread.next if spread else _nobody
    items = ((number, reading(text, next_account())) for number, text in _texts(parse.without_bom(body)))
    return sorted_out(items, check, lambda number, message, _: Line(number, message), partial=partial)


def merged(
    merge: Merge, rows: Iterable[tuple[int, Row]], check: Callable[[Message], object], *, partial: bool, spread: Spread | None = None
) -> tuple[list[Merged], list[RefusedLine]]:
    """The same for recipients of a template. Who lacks a variable is refused alone, also without `partial`."""
    next_account = spread.next if spread else _nobody
    items = ((number, merge.drawing(row, next_account())) for number, row in rows)
    return sorted_out(items, check, Merged.of, partial=partial, alone="variable_missing")


def sorted_out(
    items: Iterable[tuple[int, Callable[[], Message]]],
    check: Callable[[Message], object],
    line: Callable[[int, Message, Callable[[], Message]], L],
    *,
    partial: bool,
    alone: str = "",
    seen: Seen | None = None,
) -> tuple[list[L], list[RefusedLine]]:
    """Each line is made and checked: the good ones, as `line` makes them, and the refused ones.

    A mistake of code `alone` refuses no other line. `seen` are the ids of a batch whose lines come in portions: then a portion may be
    empty, or have no good line.
    """
    good: list[L] = []
    refused: list[RefusedLine] = []
    first: MailroomError | None = None
    whole, seen = seen is None, set() if seen is None else seen
    for number, make in items:
        name = None
        try:
            message = make()
            name = message.id
            check(message)
            _once(message, seen)
        except MailroomError as error:
            told = _at_line(number, error)
            if not partial and error.code != alone:
                raise told from error
            first = first or told
            refused.append(RefusedLine(number, error.code, told.detail, name, error.next_step or None))
            continue
        good.append(line(number, message, make))
    if whole and not good and not refused:
        raise BadInput("batch_empty", "The batch has no message.", "Send a JSON array, or one JSON object a line (NDJSON).")
    if whole and first and not good and not partial:  # nobody has the variable: it is the template that is wrong
        raise first
    return good, refused


def reading(text: bytes | msgspec.Raw, account: str) -> Callable[[], Message]:
    """Reads a line's message whenever it is called; `account` sends it where it names none."""
    return lambda: parse.message(text, account)


def _nobody() -> str:
    return ""


def attached(
    good: list[Line], refused: list[RefusedLine], attach: Callable[[Message], Message], *, partial: bool
) -> tuple[list[Line], list[RefusedLine]]:
    """The same lines with their uploads, once those were looked up: `attach` raises for a message that names a wrong one."""
    ready: list[Line] = []
    late: list[RefusedLine] = []
    for line in good:
        try:
            ready.append(Line(line.number, attach(line.message)) if line.message.uploads else line)
        except MailroomError as error:
            if not partial:
                raise _at_line(line.number, error) from error
            detail = _at_line(line.number, error).detail
            late.append(RefusedLine(line.number, error.code, detail, line.message.id, error.next_step or None))
    return ready, sorted([*refused, *late], key=lambda one: one.line)


def _texts(body: bytes) -> Iterable[tuple[int, bytes | msgspec.Raw]]:
    """The JSON of each message with its line (or place in the array), counted from 1."""
    if body.lstrip()[:1] == b"[":
        return enumerate(_array(body), 1)
    return ((number, text) for number, text in enumerate(body.splitlines(), 1) if text.strip())


def _array(body: bytes) -> list[msgspec.Raw]:
    try:
        return msgspec.json.decode(body, type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadInput("not_json", f"The body is not a JSON array: {error}.", "Send a JSON array, or NDJSON.") from error


def _once(message: Message, seen: Seen) -> None:
    if message.id is None:
        return
    if message.id in seen:
        raise BadInput("id_repeated", f"Id {message.id!r} stands twice in the batch.", "Give each mail an id of its own.", field="id")
    seen.add(message.id)


def _at_line(number: int, error: MailroomError) -> MailroomError:
    """The same error, with the line in its field and text."""
    where = f"line {number}"
    if isinstance(error, BadInput):
        field = f"{where}: {error.field}" if error.field else where
        return type(error)(error.code, f"{field}: {error.detail}", error.next_step, field=field)
    return type(error)(error.code, f"{where}: {error.detail}", error.next_step)
