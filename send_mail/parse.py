"""A request's bytes become a checked Message, or a BadInput that names the field, what was found and what would be right."""

from __future__ import annotations

import re
from collections.abc import Sequence
from email.utils import getaddresses
from typing import Any

import msgspec

from mailroom.errors import BadInput
from mailroom.model.message import Address, Attachment, Importance, Message
from mailroom.providers import mime
from send_mail.uploads import NAME

MAX_RECIPIENTS = 500  # Exchange Online's default (sending limits page)
MAX_HEADERS = 5  # Graph takes no more internetMessageHeaders

_ID = re.compile(r"[A-Za-z0-9._~@+=:-]{1,100}")
_HEADER_NAME = re.compile(r"[Xx]-[!-9;-~]{1,70}")  # RFC 5322, 2.2: printable ASCII without the colon
_MSG_ID = re.compile(r"<[^<>\s@\x00-\x1f\x7f]+@[^<>\s@\x00-\x1f\x7f]+>")  # RFC 5322, 3.6.4
_NO_ATOM = r"\s\x00-\x1f\x7f@<>\"(),:;\[\\\]"
_ADDR_SPEC = re.compile(rf"[^{_NO_ATOM}]+@[^{_NO_ATOM}.]+(\.[^{_NO_ATOM}.]+)*")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)  # whatever name it has
_MISSING = re.compile(r"Object missing required field `(.*)`")
_WHERE = re.compile(r" - at `\$\.?([\w.\[\]]*)`\Z")


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Its bytes in `content`, or in `blob` the name of an upload."""

    name: str
    content: bytes | None = None
    type: str = "application/octet-stream"
    content_id: str | None = None
    blob: str | None = None


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON of `POST /api/messages`, of a line of a batch and of a plain queue message."""

    account: str = ""
    to: list[str] = []
    cc: list[str] = []
    bcc: list[str] = []
    reply_to: list[str] = []
    id: str | None = None
    subject: str = ""
    text: str | None = None
    html: str | None = None
    headers: dict[str, str] = {}
    importance: Importance | None = None
    in_reply_to: str | None = None
    attachments: list[File] = []
    sender: str | None = msgspec.field(name="from", default=None)


_decode_body = msgspec.json.Decoder(_Body).decode


def message(body: bytes | msgspec.Raw, account: str = "") -> Message:
    """One message from its JSON; `account` sends it where it names none. Raises BadInput."""
    try:
        return _checked(_decode_body(without_bom(body) if isinstance(body, bytes) else body), account)
    except msgspec.ValidationError as error:
        raise bad(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput("not_json", f"The body is not JSON: {error}.", "Send one JSON object in UTF-8.") from error


def fields(values: dict[str, Any]) -> Message:
    """One message from fields that are values already. Raises BadInput."""
    try:
        return _checked(msgspec.convert(values, _Body))
    except msgspec.ValidationError as error:
        raise bad(str(error)) from error


def without_bom(body: bytes) -> bytes:
    """PowerShell and Excel put a byte order mark in front; a reader may ignore it (RFC 8259, 8.1)."""
    return body.removeprefix(b"\xef\xbb\xbf")


def ready(account: str, raw: bytes) -> Message:
    """One message from ready RFC 5322 bytes. Raises BadInput."""
    found = mime.envelope(raw)
    to, cc, bcc = (_addresses(name, getattr(found, name)) for name in ("to", "cc", "bcc"))
    checked = Message(account=account, to=to, cc=cc, bcc=bcc, subject=found.subject, mime=raw)
    _check_recipients(checked)
    return checked


def address(field: str, text: str) -> Address:
    """`Ann <ann@example.com>` or `ann@example.com`."""
    _one_line(field, text)
    name, spec = _one_address(text)
    if (spec and "@" not in spec) or text.rstrip("> ").endswith("@"):
        raise BadInput("address_without_domain", f"{_shown(text)} has no domain.", "Write the whole address: ann@example.com.", field=field)
    if not _ADDR_SPEC.fullmatch(spec):
        what = f"{_shown(text)} is not one address."
        raise BadInput("address_invalid", what, "Write Ann <ann@example.com> or ann@example.com.", field=field)
    return Address(spec, name)


def _one_address(text: str) -> tuple[str, str]:
    """Name and address; two empty strings where there is not exactly one."""
    try:
        found = getaddresses([text])
    except RecursionError:  # comments within comments, which only an attacker writes
        found = []
    return found[0] if len(found) == 1 else ("", "")


def _checked(body: _Body, account: str = "") -> Message:
    if not (body.account or account):
        raise BadInput("field_missing", "account is missing.", "Add it.", field="account")
    if body.id is not None and not _ID.fullmatch(body.id):
        raise BadInput("id_invalid", f"{_shown(body.id)} can't be an id.", "Use 1 to 100 of A-Z a-z 0-9 . _ ~ @ + = : -", field="id")
    _one_line("subject", body.subject)
    _check_headers(body.headers)
    if body.in_reply_to is not None and not _MSG_ID.fullmatch(body.in_reply_to):
        what = f"{_shown(body.in_reply_to)} is not a Message-ID."
        raise BadInput("in_reply_to_invalid", what, "Give it as it stands in the mail: <id@example.com>.", field="in_reply_to")
    checked = Message(
        account=body.account or account,
        id=body.id,
        to=_addresses("to", body.to),
        cc=_addresses("cc", body.cc),
        bcc=_addresses("bcc", body.bcc),
        reply_to=_addresses("reply_to", body.reply_to),
        subject=body.subject,
        text=body.text,
        html=body.html,
        headers=body.headers,
        importance=body.importance,
        in_reply_to=body.in_reply_to,
        attachments=attachments(body.attachments),
        sender=None if body.sender is None else address("from", body.sender),
    )
    _check_recipients(checked)
    return checked


def attachments(files: list[File]) -> tuple[Attachment, ...]:
    """Raises BadInput."""
    return tuple(_attachment(f"attachments[{at}]", one) for at, one in enumerate(files))


def _addresses(field: str, texts: list[str]) -> tuple[Address, ...]:
    return tuple(address(f"{field}[{at}]", text) for at, text in enumerate(texts))


def _check_recipients(message: Message) -> None:
    count = len(message.recipients)
    if count == 0:
        raise BadInput("recipients_none", "The mail has no recipient.", "Name at least one in to, cc or bcc.", field="to")
    if count > MAX_RECIPIENTS:
        what = f"The mail has {count} recipients; {MAX_RECIPIENTS} is the limit."
        raise BadInput("recipients_too_many", what, "Send one mail to each recipient as a batch.", field="to")


def _check_headers(headers: dict[str, str]) -> None:
    if len(headers) > MAX_HEADERS:
        what = f"{len(headers)} headers; Graph takes {MAX_HEADERS}."
        raise BadInput("headers_too_many", what, f"Send at most {MAX_HEADERS}.", field="headers")
    for name, value in headers.items():
        field = f"headers.{name}"
        _one_line(field, name)
        _one_line(field, value)
        if not _HEADER_NAME.fullmatch(name):
            raise BadInput("header_not_x", f"{_shown(name)} can't be set.", "Custom headers begin with x-.", field=field)
        if name.lower() == mime.STAMP_HEADER.lower():
            raise BadInput("header_reserved", f"{name} is ours: it tells whether a mail was sent.", "Use another name.", field=field)


def _attachment(field: str, file: File) -> Attachment:
    _check_attachment(field, file)
    if file.blob is None and file.content is None:
        raise BadInput("field_missing", f"{field}.content is missing.", "Add it, or name an upload in `blob`.", field=f"{field}.content")
    if file.blob is not None and file.content is not None:
        raise BadInput("attachment_twice", "The attachment has content and blob.", "Give one of them.", field=f"{field}.blob")
    if file.blob is not None and not NAME.fullmatch(file.blob):
        what = f"{_shown(file.blob)} can't be the name of an upload."
        raise BadInput("upload_invalid", what, "Use the `blob` that POST /api/attachments answered.", field=f"{field}.blob")
    return Attachment(file.name, file.content or b"", file.type, file.content_id, file.blob)


def _check_attachment(field: str, attachment: File) -> None:
    for name in ("name", "type", "content_id"):
        _one_line(f"{field}.{name}", getattr(attachment, name) or "")
    if not attachment.name:
        raise BadInput("attachment_without_name", "The attachment has no name.", "Give the file's name.", field=f"{field}.name")
    if attachment.type.count("/") != 1 or not all(attachment.type.split("/")):
        what = f"{_shown(attachment.type)} is not a media type."
        raise BadInput("attachment_type_invalid", what, "Write it like application/pdf.", field=f"{field}.type")


def _one_line(field: str, text: str) -> None:
    """A line break in a header would let its author write further headers (RFC 5322, 2.2)."""
    if "\r" in text or "\n" in text or "\0" in text:
        raise BadInput("header_line_break", "The value holds a CR, LF or NUL.", "Put it on one line.", field=field)


def bad(what: str, known: Sequence[str] = _Body.__struct_encode_fields__) -> BadInput:
    """What msgspec says of a value that is not what a struct wants. `known` are the fields that would be right."""
    where = match.group(1) if (match := _WHERE.search(what)) else ""
    said = _WHERE.sub("", what)
    if unknown := _UNKNOWN.fullmatch(said):
        field = f"{where}.{unknown.group(1)}" if where else unknown.group(1)
        return BadInput("field_unknown", f"There is no field {_shown(field)}.", f"Known are {', '.join(known)}.", field=field)
    if missing := _MISSING.fullmatch(said):
        field = f"{where}.{missing.group(1)}" if where else missing.group(1)
        return BadInput("field_missing", f"{field} is missing.", "Add it.", field=field)
    if said == "Invalid base64 encoded string":
        return BadInput("base64_invalid", f"{where} is not base64.", "Encode the file's bytes in base64 (RFC 4648, 4).", field=where)
    return BadInput("field_type", f"{said}.", "See the message's fields in the README.", field=where)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
