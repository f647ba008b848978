"""One template and many recipients become a batch's mails (mail merge). Each field is a Jinja2 text of its own; html alone is escaped.

A mail is drawn twice: to be checked, when only its size and its names are kept, and again when its slice is written. So a batch's mails,
which may be a hundred times larger than the request that they come of, never lie in memory together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from mailroom.errors import BadInput
from mailroom.model.message import Attachment, Message
from send_mail import parse
from send_mail.line import size_of
from send_mail.recipients import Row, from_csv, from_json

if TYPE_CHECKING:
    from send_mail.bounds import Meter

BATCH_SECONDS = 100.0  # of the processor, for all mails of a batch: the platform ends a request after 230
TEMPLATE_LIMIT = 256 * 1024  # characters of all fields together
_MARKS = ("{{", "{%", "{#")

Variables = dict[str, Any]
Draw = Callable[[Variables], Any]


class _Template(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The fields of a message as Jinja2 texts. Several accounts share the mails by their rates."""

    account: str | list[str] = ""
    to: list[str] = []
    cc: list[str] = []
    bcc: list[str] = []
    reply_to: list[str] = []
    id: str | None = None
    subject: str = ""
    text: str | None = None
    html: str | None = None
    headers: dict[str, str] = {}
    importance: str | None = None
    in_reply_to: str | None = None
    sender: str | None = msgspec.field(name="from", default=None)


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The object that POST /api/batches takes. `attachments` go with every mail."""

    template: _Template
    recipients: list[msgspec.Raw] | None = None
    csv: str | None = None
    attachments: list[parse.File] = []
    sender: str | None = msgspec.field(name="from", default=None)
    send_at: str | None = None
    time_zone: str | None = None

    @property
    def accounts(self) -> tuple[str, ...]:
        """That share the mails, where the template names several."""
        return tuple(self.template.account) if isinstance(self.template.account, list) else ()

    @property
    def rows(self) -> Iterator[tuple[int, Row]]:
        if self.csv is not None:
            return from_csv(self.csv)
        return from_json(self.recipients or [])


def asked(body: bytes) -> Asked | None:
    """None where the body is no template, but lines or an array. Raises BadInput."""
    body = parse.without_bom(body).lstrip()
    if not body.startswith(b"{") or not _is_one_object(body):
        return None
    try:
        found = msgspec.json.decode(body, type=Asked)
    except msgspec.ValidationError as error:
        where = _Template if "`$.template" in str(error) else Asked
        raise parse.bad(str(error), where.__struct_encode_fields__) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput("not_json", f"The body is not JSON: {error}.", "Send one JSON object in UTF-8, or NDJSON.") from error
    _check(found)
    return found


def _is_one_object(body: bytes) -> bool:
    """With a template, and not many of them, one a line."""
    try:
        return "template" in msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):
        first = body.splitlines()[0]
        return b'"template"' in body and not (first.rstrip().endswith(b"}") and b'"template"' not in first)


def _check(found: Asked) -> None:
    if (found.recipients is None) == (found.csv is None):
        what = "The batch has no recipients." if found.csv is None else "The batch has recipients and csv."
        raise BadInput(
            "recipients_missing" if found.csv is None else "recipients_twice", what, "Give recipients or csv.", field="recipients"
        )
    if found.sender is not None and found.template.sender is not None:
        raise BadInput("from_twice", "The batch has `from` twice.", "Give it once, beside the template or in it.", field="from")
    size = sum(map(len, _texts(found.template)))
    if size > TEMPLATE_LIMIT:
        what = f"The template has {size} characters; {TEMPLATE_LIMIT} is the limit."
        raise BadInput("template_too_large", what, "Send what is large as an attachment.", field="template")


def _texts(template: _Template) -> Iterator[str]:
    for name in template.__struct_fields__:
        value = getattr(template, name)
        if isinstance(value, str):
            yield value
        elif value:
            yield from value.values() if isinstance(value, dict) else value


@dataclass(frozen=True, slots=True)
class Merge:
    """A template that is ready to be drawn. `account` sends where the template names none."""

    draws: Mapping[str, Draw]
    attachments: tuple[Attachment, ...]
    meter: Meter

    @staticmethod
    def of(found: Asked, attachments: tuple[Attachment, ...]) -> Merge:
        """Raises BadInput for a template that can't be read, or that says what it may not."""
        from send_mail.bounds import Bounded, Meter

        meter = Meter()
        plain, html = Bounded(meter, autoescape=False), Bounded(meter, autoescape=True)
        fields = {
            name: value for name, value in msgspec.to_builtins(found.template).items() if not isinstance(value, list) or name != "account"
        }
        if found.sender is not None:
            fields["from"] = found.sender
        draws = {name: _draw(f"template.{name}", value, html if name == "html" else plain) for name, value in fields.items()}
        return Merge(draws, attachments, meter)

    def message(self, variables: Variables, account: str = "") -> Message:
        """Raises BadInput, also for what a template does with these variables and not with others."""
        self.meter.begin()
        known = {"recipient": variables, **variables}
        fields = {name: draw(known) for name, draw in self.draws.items()}
        if account and not fields.get("account"):
            fields["account"] = account
        message = parse.fields(fields)
        return msgspec.structs.replace(message, attachments=self.attachments) if self.attachments else message

    def drawing(self, row: Row, account: str) -> Callable[[], Message]:
        """Draws it whenever it is called."""

        def draw() -> Message:
            if isinstance(row, BadInput):
                raise row
            return self.message(row, account)

        return draw


@dataclass(frozen=True, slots=True)
class Merged:
    """A good recipient of a template: what a batch must know of the mail, which is drawn again when it is wanted."""

    number: int
    account: str
    id: str | None
    size: int
    recipients: int
    draw: Callable[[], Message]

    @staticmethod
    def of(number: int, message: Message, draw: Callable[[], Message]) -> Merged:
        return Merged(number, message.account, message.id, size_of(message), len(message.recipients), draw)

    @property
    def message(self) -> Message:
        return self.draw()


def in_time(rows: Iterable[tuple[int, Row]], clock: Callable[[], float] = time.thread_time) -> Iterator[tuple[int, Row]]:
    """The same rows, while drawing them takes no longer than a request may. Raises BadInput."""
    ends = clock() + BATCH_SECONDS
    for number, row in rows:
        if clock() > ends:
            what = f"After {BATCH_SECONDS:g} seconds the template was drawn for the recipients before line {number}, and not for all."
            raise BadInput("template_too_slow", what, "Split the batch, or let the template do less.", field="template")
        yield number, row


def _draw(field: str, value: Any, environment: Any) -> Draw:
    """How the field's value is made of one recipient's variables."""
    if isinstance(value, list):
        many = [_draw(f"{field}[{at}]", one, environment) for at, one in enumerate(value)]
        return lambda variables: [text for one in many if (text := one(variables).strip())]  # `{% if boss %}…{% endif %}` may be nobody
    if isinstance(value, dict):
        by_name = {name: _draw(f"{field}.{name}", one, environment) for name, one in value.items()}
        return lambda variables: {name: one(variables) for name, one in by_name.items()}
    if not any(mark in value for mark in _MARKS):
        return lambda variables: value
    draw: Draw = environment.draw(field, value)
    return draw
