"""A batch's bytes become lines: a JSON array, or NDJSON with one message a line. A bad line is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from mailroom.errors import BadInput, MailroomError
from mailroom.model.batch import RefusedLine
from mailroom.model.message import Message
from send_mail import parse
from send_mail.accept import Line


def lines(body: bytes, check: Callable[[Message], object], *, partial: bool) -> tuple[list[Line], list[RefusedLine]]:
    """The good lines, and the refused ones. Without `partial` the first bad line raises, named in `field`.

    `check` raises for a message that is well-formed but may not be sent, such as one of an account the caller may not use.
    """
    good: list[Line] = []
    refused: list[RefusedLine] = []
    seen: set[str] = set()
    for number, read in _readers(body):
        try:
            message = read()
            check(message)
            _once(message, seen)
        except MailroomError as error:
            if not partial:
                raise _at_line(number, error) from error
            refused.append(RefusedLine(number, error.code, str(_at_line(number, error).detail)))
            continue
        good.append(Line(number, message))
    if not good and not refused:
        raise BadInput("batch_empty", "The batch has no message.", "Send a JSON array, or one JSON object a line (NDJSON).")
    return good, refused


def _readers(body: bytes) -> Iterator[tuple[int, Callable[[], Message]]]:
    """For each message its line (or place in the array), counted from 1, and how to read it."""
    if body.lstrip()[:1] == b"[":
        for number, value in enumerate(_array(body), 1):
            yield number, lambda value=value: parse.message_of(value)  # type: ignore[misc]  # the default binds this turn's value
        return
    for number, text in enumerate(body.splitlines(), 1):
        if text.strip():
            yield number, lambda text=text: parse.message(text)  # type: ignore[misc]  # likewise


def _array(body: bytes) -> list[Any]:
    try:
        return msgspec.json.decode(body, type=list[Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput("not_json", f"The body is not a JSON array: {error}.", "Send a JSON array, or NDJSON.") from error


def _once(message: Message, seen: set[str]) -> None:
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
