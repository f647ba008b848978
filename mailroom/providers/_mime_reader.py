"""Reads a mail whoever wrote it: structure by the email package, headers by `_mime_headers`, charsets by what they are taken for.

Not by policy.default: it raises on some headers, drops others, and is slow on all.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from email.message import Message as Part
from email.parser import BytesParser

import msgspec

from mailroom.model.message import Address
from mailroom.model.received import Envelope, Received, ReceivedFile
from mailroom.providers import _mime_headers as headers

_END_OF_HEADERS = re.compile(rb"\n\r?\n")
_NO_HEADER = re.compile(rb"(?<=\n)[^\s:][^:\n]*\n(?=[!-9;-~]+:)")


class Body(msgspec.Struct):
    """What the parts of a mail come to."""

    text: list[str] = []
    html: list[str] = []
    files: list[ReceivedFile] = []


def parse(raw: bytes) -> Received:
    """A mail whose parts lie in parts a hundred levels deep is read by its headers alone."""
    try:
        return _received(_opened(raw))
    except RecursionError:
        return _received(_opened(raw, headers_only=True))


def _received(mail: Part) -> Received:
    body = Body()
    _read(mail, body)
    return Received(
        sender=_addresses(mail, "from"),
        to=_addresses(mail, "to"),
        cc=_addresses(mail, "cc"),
        reply_to=_addresses(mail, "reply-to"),
        subject=headers.text(_first(mail, "subject")).strip(),
        date=headers.date(_first(mail, "date")),
        message_id=_id(mail, "message-id"),
        in_reply_to=_id(mail, "in-reply-to"),
        references=headers.ids(_first(mail, "references")),
        text="\n".join(body.text) if body.text else None,
        html="\n".join(body.html) if body.html else None,
        attachments=tuple(body.files),
    )


def envelope(raw: bytes) -> Envelope:
    mail = _opened(raw, headers_only=True)
    sender, to, cc, bcc = ([_written(one) for one in _addresses(mail, name)] for name in ("from", "to", "cc", "bcc"))
    return Envelope(sender, to, cc, bcc, headers.text(_first(mail, "subject")).strip())


def _opened(raw: bytes, *, headers_only: bool = False) -> Part:
    """A byte order mark, and lines among the headers that are none, would end the headers right there."""
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    end = _END_OF_HEADERS.search(raw)
    head = raw[: end.start() + 1] if end else b""
    return BytesParser().parsebytes(_NO_HEADER.sub(b"", head) + raw[len(head) :], headersonly=headers_only)


def _read(part: Part, body: Body) -> None:
    """A multipart without parts, for want of its boundary, says nothing: other readers agree on that."""
    kind = _kind(part)
    if kind.startswith("multipart/"):
        for inner in _parts(part):
            _read(inner, body)
    elif kind in ("text/plain", "text/html") and not _is_attached(part):
        (body.html if kind == "text/html" else body.text).append(_text(part))
    else:
        body.files.append(_file(part))


def _parts(part: Part) -> Iterator[Part]:
    payload = part.get_payload() if part.is_multipart() else ()
    yield from (inner for inner in payload if isinstance(inner, Part))


def _kind(part: Part) -> str:
    return part.get_content_type().split()[0]


def _is_attached(part: Part) -> bool:
    disposition = _first(part, "content-disposition")
    if disposition.partition(";")[0].strip().lower() == "attachment":
        return True
    return bool(_name(part))


def _text(part: Part) -> str:
    charset = headers.parameters(_first(part, "content-type")).get("charset")
    return headers.decoded(_bytes(part), charset).replace("\r\n", "\n").replace("\r", "\n")


def _file(part: Part) -> ReceivedFile:
    content = _bytes(part)
    content_id = headers.ids(_first(part, "content-id"))
    return ReceivedFile(
        name=_name(part),
        type=_kind(part),
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        content_id=content_id[0] if content_id else None,
    )


def _bytes(part: Part) -> bytes:
    payload = part.get_payload()
    if isinstance(payload, list):  # an attached mail, already read as one
        return b"".join(inner.as_bytes() for inner in payload if isinstance(inner, Part))
    decoded = part.get_payload(decode=True)
    return decoded if isinstance(decoded, bytes) else b""


def _name(part: Part) -> str:
    disposition = headers.parameters(_first(part, "content-disposition"))
    return disposition.get("filename") or headers.parameters(_first(part, "content-type")).get("name", "")


def _addresses(mail: Part, name: str) -> tuple[Address, ...]:
    return headers.addresses(_first(mail, name))


def _id(mail: Part, name: str) -> str | None:
    found = headers.ids(_first(mail, name))
    return found[0] if found else None


def _first(part: Part, name: str) -> str:
    """As it was written; a mail that has a header twice is read by its first."""
    return next((value for known, value in part.raw_items() if known.lower() == name), "")


def _written(one: Address) -> str:
    name = one.name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{name}" <{one.address}>' if name else one.address
