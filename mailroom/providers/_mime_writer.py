"""Writes a mail as RFC 5322 and MIME (RFC 2045-2049), with names, subjects and file names in any alphabet (RFC 2047, 2231).

By hand, since the email package takes sixty times as long for a small mail and five times for a large one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from email.header import Header
from email.utils import format_datetime
from urllib.parse import quote

from mailroom.model.message import Address, Attachment, Message

STAMP_HEADER = "X-Mailroom-Stamp"

_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")  # RFC 5322, 3.2.3
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(?:;[\x20-\x7e]*)?", re.ASCII)
_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_FOLD = "\r\n"
_LINE = 900  # octets that a value may have on one line, which has 998 at most (RFC 5322, 2.1.1)


def build(message: Message, *, stamp: str, sender: str, date: datetime, message_id: str | None = None) -> bytes:
    """The mail with its stamp, from `sender` unless it names one itself. Bcc stays in, for Graph takes the recipients from here; without a
    `message_id` the provider gives one.
    """
    head = [
        _addresses("From", [message.sender or Address(sender)]),
        _addresses("To", message.to),
        _addresses("Cc", message.cc),
        _addresses("Bcc", message.bcc),
        _addresses("Reply-To", message.reply_to),
        _text("Subject", message.subject) if message.subject else "",
        f"Date: {format_datetime(date)}",
        f"Message-ID: {message_id}" if message_id else "",
        f"In-Reply-To: {message.in_reply_to}\r\nReferences: {message.in_reply_to}" if message.in_reply_to else "",
        f"Importance: {message.importance}" if message.importance else "",
        *(_text(name, value) for name, value in message.headers.items()),
        f"{STAMP_HEADER}: {stamp}",
        "MIME-Version: 1.0\r\n",
    ]
    return "\r\n".join(line for line in head if line).encode() + _content(message, hashlib.sha256(stamp.encode()).hexdigest()[:24])


def _content(message: Message, seed: str) -> bytes:
    """mixed(alternative(text, related(html, inline...)), attached...), without the levels that hold one part alone."""
    inline = [one for one in message.attachments if one.content_id and message.html is not None]
    parts: list[bytes] = []
    if message.text is not None or message.html is None:
        parts.append(_body("plain", message.text or ""))
    if message.html is not None:
        parts.append(_many("related", f"r{seed}", [_body("html", message.html), *map(_file, inline)]))
    attached = [_file(one) for one in message.attachments if one not in inline]
    return _many("mixed", f"m{seed}", [_many("alternative", f"a{seed}", parts), *attached])


def _many(kind: str, seed: str, parts: Sequence[bytes]) -> bytes:
    """`=_` stands in no base64 and no quoted-printable text, so the boundary is in none of the parts."""
    if len(parts) == 1:
        return parts[0]
    boundary = f"=_{seed}"
    inside = b"".join(f"--{boundary}\r\n".encode() + part + b"\r\n" for part in parts)
    return f'Content-Type: multipart/{kind}; boundary="{boundary}"\r\n\r\n'.encode() + inside + f"--{boundary}--\r\n".encode()


def _body(kind: str, text: str) -> bytes:
    """Quoted-printable stays readable; base64 where that is shorter."""
    plain = _LINE_BREAK.sub("\n", text).encode("utf-8", "replace")
    quoted = binascii.b2a_qp(plain, istext=True).replace(b"\n", b"\r\n")
    coded = _base64(plain.replace(b"\n", b"\r\n"))
    encoding, body = ("quoted-printable", quoted) if len(quoted) <= len(coded) else ("base64", coded)
    return f"Content-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode() + body


def _file(attachment: Attachment) -> bytes:
    """An attached mail may not be encoded (RFC 2046, 5.2.1), and a multipart has no meaning without the boundary it was made with."""
    kind = attachment.type if _MEDIA_TYPE.fullmatch(attachment.type) else "application/octet-stream"
    kind = "application/octet-stream" if kind.lower().startswith("multipart/") else kind
    is_mail = kind.lower().startswith("message/rfc822")
    head = [
        f"Content-Type: {kind}",
        f"Content-Transfer-Encoding: {'8bit' if is_mail else 'base64'}",
        f"Content-Disposition: {'inline' if attachment.content_id else 'attachment'}{_parameter('filename', attachment.name)}",
        f"Content-ID: <{attachment.content_id.strip('<>')}>" if attachment.content_id else "",
    ]
    lines = "\r\n".join(line for line in head if line) + "\r\n\r\n"
    return lines.encode() + (attachment.content if is_mail else _base64(attachment.content))


def _base64(content: bytes) -> bytes:
    return base64.encodebytes(content).replace(b"\n", b"\r\n")


def _text(name: str, value: str) -> str:
    """As it is where it is short and plain; else in encoded words (RFC 2047), what looks like one too, lest it be decoded."""
    if value.isascii() and value.isprintable() and "=?" not in value and len(value) <= _LINE:
        return f"{name}: {value}"
    return f"{name}: {Header(_sound(value), 'utf-8', header_name=name).encode(linesep=_FOLD)}"


def _addresses(name: str, addresses: Sequence[Address]) -> str:
    return f"{name}: {f',{_FOLD} '.join(map(_address, addresses))}" if addresses else ""


def _address(one: Address) -> str:
    spec = addr_spec(one.address)
    if not one.name:
        return spec
    if not one.name.isascii() or not one.name.isprintable() or "=?" in one.name or len(one.name) > _LINE:
        return f"{Header(_sound(one.name), 'utf-8', header_name='Reply-To').encode(linesep=_FOLD)} <{spec}>"
    return f"{one.name if _ATOMS.fullmatch(one.name) else _quoted(one.name)} <{spec}>"


def addr_spec(address: str) -> str:
    """The domain as DNS has it (RFC 3490); one that DNS can't have stays, and the provider will say so."""
    local, _, domain = address.rpartition("@")
    try:
        return f"{local}@{domain.encode('idna').decode()}"
    except UnicodeError:
        return address


def _parameter(name: str, value: str) -> str:
    """RFC 2231; in sections only where a line would get too long, since many readers know no sections."""
    if value.isascii() and value.isprintable() and len(value) <= _LINE:
        return f"; {name}={_quoted(value)}"
    coded = quote(_sound(value), safe="")
    if len(coded) <= _LINE:
        return f";{_FOLD} {name}*=utf-8''{coded}"
    sections = re.findall(f"(?:%..|[^%]){{1,{_LINE // 3}}}", f"utf-8''{coded}")
    return "".join(f";{_FOLD} {name}*{number}*={section}" for number, section in enumerate(sections))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _sound(text: str) -> str:
    """Lone surrogates have no bytes."""
    return text.encode("utf-8", "replace").decode()
