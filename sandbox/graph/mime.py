"""Items <-> RFC 5322: the source of what came as JSON, and what a source says."""

from __future__ import annotations

import email.policy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.header import Header, decode_header, make_header
from email.message import EmailMessage, Message
from email.parser import BytesParser
from email.utils import format_datetime, formataddr, getaddresses, parsedate_to_datetime
from html.parser import HTMLParser
from typing import Any

from sandbox.graph import ids
from sandbox.graph.items import Attachment, Item, address_of, header_property, person

DEFAULTS: dict[str, Any] = {
    "subject": None,
    "importance": "normal",
    "isDeliveryReceiptRequested": None,
    "isReadReceiptRequested": False,
    "inferenceClassification": "focused",
    "categories": [],
    "body": {"contentType": "text", "content": ""},
    "toRecipients": [],
    "ccRecipients": [],
    "bccRecipients": [],
    "replyTo": [],
    "flag": {"flagStatus": "notFlagged"},
}
_FIELDS = {"To": "toRecipients", "Cc": "ccRecipients", "Bcc": "bccRecipients", "Reply-To": "replyTo"}
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_PARAMETER = re.compile(r"[\w.+-]+")
_BCC = re.compile(rb"^bcc[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*", re.IGNORECASE | re.MULTILINE)
_HEAD = re.compile(rb"\A(?:[^\r\n]+\r?\n)*")


@dataclass(slots=True)
class Read:
    """What a source says; files are (name, type, content, content id)."""

    props: dict[str, Any]
    headers: list[tuple[str, str]]
    extended: dict[str, str]
    files: list[tuple[str, str, bytes, str | None]] = field(default_factory=list)


def read(raw: bytes) -> Read:
    """Whatever it is: a header or part that can't be read is as good as absent."""
    message = BytesParser(policy=email.policy.compat32).parsebytes(raw)
    headers = [(name, _text(_FOLD.sub("", _raw(value)))) for name, value in message.items()]
    props: dict[str, Any] = {known: _people(message, name) for name, known in _FIELDS.items()}
    props |= {"subject": _subject(message), "internetMessageId": _text(message["Message-ID"]) or None, "sentDateTime": _date(message)}
    sender = _people(message, "From")[:1]
    props |= {"from": sender[0], "sender": sender[0]} if sender else {}
    found = Read({name: value for name, value in props.items() if value is not None}, headers, {})
    found.extended = {header_property(name): value for name, value in headers if name.lower().startswith("x-")}
    _read_parts(message, found)
    return found


def attachments(found: Read, item: Item) -> list[Attachment]:
    made = enumerate(found.files)
    when: datetime = item.props["createdDateTime"]
    return [
        Attachment(ids.attachment_id(item.immutable_id, at), name, content, kind, when, _sort_of(kind), cid is not None, cid)
        for at, (name, kind, content, cid) in made
    ]


def _sort_of(kind: str) -> str:
    return "item" if kind == "message/rfc822" else "file"


def source(item: Item) -> bytes:
    """The item as RFC 5322: as it came, or built as Exchange does, with a text part derived from html."""
    if item.mime is not None:
        return complete(item.mime, {"Message-ID": item.props.get("internetMessageId") or "", "Date": _rfc(item)})
    message = EmailMessage(policy=email.policy.SMTP)
    _write_body(message, item)
    return "".join(_headers(item)).encode() + message.as_bytes()


def complete(raw: bytes, headers: Mapping[str, str]) -> bytes:
    """With these headers where it has none of that name."""
    head = _HEAD.match(raw)
    known = head.group().lower() if head else b""
    missing = (f"{name}: {value}\r\n".encode() for name, value in headers.items() if value)
    return b"".join(line for line in missing if not re.search(rb"^" + line.split(b":")[0].lower() + rb"[ \t]*:", known, re.MULTILINE)) + raw


def without_bcc(raw: bytes) -> bytes:
    """Only in the head: a mail may quote one in its body."""
    head = _HEAD.match(raw)
    end = head.end() if head else 0
    return _BCC.sub(b"", raw[:end]) + raw[end:]


def text_of(html: str) -> str:
    reader = _Text()
    reader.feed(html)
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.parts).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


class _Text(HTMLParser):
    BREAKS = frozenset(["br", "p", "div", "tr", "li", "h1", "h2", "h3", "h4", "h5", "h6", "table", "ul", "ol", "blockquote", "hr"])
    HIDDEN = frozenset(("style", "script", "head", "title"))

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden += tag in self.HIDDEN
        if tag in self.BREAKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in self.HIDDEN and self.hidden > 0
        if tag in self.BREAKS - {"br"}:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(data.replace("\n", " "))


def _headers(item: Item) -> Iterator[str]:
    """Lines, without the content's own. Written by hand: a library may refuse what strangers wrote, or fold it wrongly."""
    props = item.props
    people = {"From": [props.get("from")], **{name: props.get(known, []) for name, known in _FIELDS.items()}}
    written = {name: ",\r\n ".join(map(_mailbox, filter(None, ones))) for name, ones in people.items()}
    known = {
        "Subject": props.get("subject") or "",
        "Date": _rfc(item),
        "Message-ID": props.get("internetMessageId") or "",
        "Importance": {"low": "low", "high": "high"}.get(props.get("importance", ""), ""),
    }
    names = {name.lower() for name in (*_FIELDS, "From", "Sender", "MIME-Version", *known)}
    more = ((name, value) for name, value in item.headers if name.lower() not in names and not name.lower().startswith("content-"))
    written |= {name: _encoded(value) for name, value in known.items()}
    lines = [*written.items(), *((name, _encoded(value)) for name, value in more)]
    return (f"{name}: {value}\r\n" for name, value in lines if value)


def _write_body(message: EmailMessage, item: Item) -> None:
    body = item.props.get("body") or {}
    content = body.get("content") or ""
    html = body.get("contentType") == "html"
    message.set_content(text_of(content) if html else content)
    inline = [file for file in item.attachments if file.inline and file.content_id]
    if html:
        message.add_alternative(content, subtype="html")
        part = message.get_payload(1)  # type: ignore[unused-ignore]
        assert isinstance(part, EmailMessage)
        for file in inline:
            cid = "".join((file.content_id or "").split())
            part.add_related(file.content, *_kind(file), cid=f"<{cid}>", filename=_line_of(file.name), disposition="inline")
    for file in item.attachments:
        if file.kind == "item":
            message.add_attachment(BytesParser(policy=email.policy.SMTP).parsebytes(file.content), filename=_line_of(file.name))
        elif not (html and file in inline):
            message.add_attachment(file.content, *_kind(file), filename=_line_of(file.name))


def _line_of(text: str) -> str:
    return " ".join(text.split())


def _kind(file: Attachment) -> tuple[str, str]:
    main, _, sub = (file.content_type or "").partition(";")[0].strip().partition("/")
    usual = _PARAMETER.fullmatch(main) and _PARAMETER.fullmatch(sub) and main not in ("multipart", "message")
    return (main, sub) if usual else ("application", "octet-stream")


def _mailbox(one: dict[str, Any]) -> str:
    name, address = one["emailAddress"].get("name") or "", _line_of(address_of(one))
    shown = "" if name == address else _line_of(name)
    return f"{formataddr((shown, ''))[:-2]}<{address}>" if shown else address


def _encoded(value: str) -> str:
    """RFC 2047, folded."""
    line = _line_of(value)
    return Header(line, "us-ascii" if line.isascii() else "utf-8").encode(linesep="\r\n")


def _rfc(item: Item) -> str:
    when: datetime = item.props["sentDateTime"]
    return format_datetime(when.astimezone(UTC))


def _people(message: Message, name: str) -> list[dict[str, Any]]:
    found = getaddresses([_raw(value) for value in message.get_all(name, [])])
    return [person(address, _text(shown)) for shown, address in found if address]


def _subject(message: Message) -> str:
    return " ".join(_text(message["Subject"]).split())


def _raw(value: Any) -> str:
    return "" if value is None else str(value)


def _text(value: Any) -> str:
    try:
        return _whole(str(make_header(decode_header(_raw(value)))))
    except (LookupError, ValueError, HeaderParseError):  # an unknown charset, or bytes that are none of its
        return _whole(_raw(value))


def _whole(text: str) -> str:
    """Without halves of surrogate pairs, which some charsets decode to and no JSON can show."""
    return text.encode("utf-8", "replace").decode()


def _date(message: Message) -> datetime | None:
    try:
        found = parsedate_to_datetime(_raw(message["Date"]))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _read_parts(message: Message, found: Read) -> None:
    bodies: dict[str, str] = {}
    for part in _leaves(message):
        kind = part.get_content_type()
        named = part.get_filename()
        if kind in ("text/plain", "text/html") and not named and part.get_content_disposition() != "attachment":
            bodies.setdefault(kind, _decoded(part))
        elif kind != "text/plain" or named or part.get_content_disposition() == "attachment":
            found.files.append((_text(named) or "attachment", kind, _bytes(part), _cid(part)))
    html = bodies.get("text/html")
    text = bodies.get("text/plain", "")
    found.props["body"] = {"contentType": "html", "content": html} if html is not None else {"contentType": "text", "content": text}


def _leaves(part: Message) -> Iterator[Message]:
    """A mail inside a mail is one leaf."""
    if not part.is_multipart() or part.get_content_type() == "message/rfc822":
        yield part
    else:
        for inner in part.get_payload():
            if isinstance(inner, Message):
                yield from _leaves(inner)


def _bytes(part: Message) -> bytes:
    if part.get_content_type() == "message/rfc822" and part.is_multipart():
        return b"".join(inner.as_bytes() for inner in part.get_payload() if isinstance(inner, Message))
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else part.as_bytes()


def _decoded(part: Message) -> str:
    try:
        return _whole(_bytes(part).decode(part.get_content_charset() or "utf-8", "replace"))
    except (LookupError, ValueError):
        return _bytes(part).decode("latin-1")


def _cid(part: Message) -> str | None:
    cid = part["Content-ID"]
    inline = part.get_content_disposition() != "attachment"
    return str(cid).strip().strip("<>") if cid and inline else None
