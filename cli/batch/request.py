"""A file and a few options become the body of POST /api/batches. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from mailroom.errors import BadInput

BOM = b"\xef\xbb\xbf"
LIMIT = 15 * 1024 * 1024  # bytes; the API takes 20 MB a request, and JSON may make more of what is in a file
_object = msgspec.json.Decoder(dict[str, Any]).decode
_rows = msgspec.json.Decoder(list[dict[str, Any]]).decode


@dataclass(frozen=True, slots=True)
class Request:
    """What is too large for a request is uploaded before, and named in its body."""

    body: bytes
    params: Mapping[str, str]
    kind: str
    upload: bytes = b""

    @property
    def key(self) -> str:
        """An Idempotency-Key: the same command, repeated, is the same batch."""
        query = "&".join(f"{name}={value}" for name, value in sorted(self.params.items()))
        digest = hashlib.sha256()
        for part in (query.encode(), self.body, self.upload):
            digest.update(len(part).to_bytes(8, "big") + part)
        return f"cli-{digest.hexdigest()}"

    def naming(self, blob: str) -> bytes:
        return msgspec.json.encode(_object(self.body) | {"blob": blob})


def of_lines(content: bytes, params: Mapping[str, str], *, limit: int = LIMIT) -> Request:
    """Mails as NDJSON or a JSON array, or a whole request with a template: what the API reads, byte for byte."""
    start = content[:LIMIT].removeprefix(BOM).lstrip()
    if not start:
        raise BadInput("file_empty", "The file is empty.", "Give NDJSON, a JSON array, or recipients with --template.")
    if len(content) <= limit:
        return Request(content, params, "application/json" if start[:1] == b"[" else "application/x-ndjson")
    if start[:1] == b"[":
        content = _lines(content.removeprefix(BOM))
    elif not start.splitlines()[0].rstrip().endswith(b"}"):
        what = f"The file has {len(content)} bytes, and is neither NDJSON nor a JSON array."
        raise BadInput("batch_too_large", what, "Give the template with --template, and its recipients as FILE.")
    return Request(b'{"format":"ndjson"}', params, "application/json", content)


def of_template(template: bytes, content: bytes, params: Mapping[str, str], *, as_csv: bool, limit: int = LIMIT) -> Request:
    """`content` are the recipients: CSV with a header line, a JSON array of objects, or one object a line. Raises BadInput."""
    try:
        told = _object(template.removeprefix(BOM))
    except msgspec.DecodeError as error:
        step = 'Give the fields of a mail as JSON: {"account": "billing", "to": ["{{ email }}"], "subject": "…", "text": "…"}.'
        raise BadInput("template_not_json", f"The template is not a JSON object: {error}.", step) from error
    order = told if "template" in told else {"template": told}
    recipients: Any = _text(content) if as_csv else _recipients(content.removeprefix(BOM))
    if len(content) <= limit:
        body = msgspec.json.encode(order | {"csv" if as_csv else "recipients": recipients})
        return Request(body, params, "application/json")
    upload = recipients.encode() if as_csv else b"\n".join(map(msgspec.json.encode, recipients))
    return Request(msgspec.json.encode(order | {"format": "csv" if as_csv else "ndjson"}), params, "application/json", upload)


def _lines(content: bytes) -> bytes:
    """An array's items, one a line."""
    try:
        return b"\n".join(b" ".join(bytes(one).splitlines()) for one in msgspec.json.decode(content, type=list[msgspec.Raw]))
    except msgspec.DecodeError as error:
        raise BadInput("not_json", f"The file is not a JSON array: {error}.", "Give a JSON array, or NDJSON.") from error


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadInput("csv_not_utf8", f"line {line}: The line is not UTF-8.", "Save the table as CSV UTF-8.") from error


def _recipients(content: bytes) -> list[dict[str, Any]]:
    try:
        if content.lstrip()[:1] == b"[":
            return _rows(content)
    except msgspec.DecodeError as error:
        raise BadInput(
            "recipients_not_json", f"The recipients can't be read: {error}.", 'Give [{"email": "ann@example.com"}, …].'
        ) from error
    return [_row(number, line) for number, line in enumerate(content.splitlines(), 1) if line.strip()]


def _row(number: int, line: bytes) -> dict[str, Any]:
    try:
        return _object(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        step = 'Give one object a line, {"email": "ann@example.com"}; or CSV, with --csv.'
        raise BadInput("recipients_not_json", f"line {number}: The recipient can't be read: {error}.", step) from error
