"""A batch's bytes become lines: a JSON array, or NDJSON with one message a line. A bad line is named."""

from __future__ import annotations

from collections.abc import Callable, Iterable

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
    for number, text in _texts(parse.without_bom(body)):
        name = None
        try:
            message = parse.message(text)
            name = message.id
            check(message)
            _once(message, seen)
        except MailroomError as error:
            if not partial:
                raise _at_line(number, error) from error
            refused.append(RefusedLine(number, error.code, _at_line(number, error).detail, name))
            continue
        good.append(Line(number, message))
    if not good and not refused:
        raise BadInput("batch_empty", "The batch has no message.", "Send a JSON array, or one JSON object a line (NDJSON).")
    return good, refused


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
            late.append(RefusedLine(line.number, error.code, _at_line(line.number, error).detail, line.message.id))
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
