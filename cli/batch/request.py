"""A file and a few options become the body of POST /api/batches. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from mailroom.errors import BadInput

BOM = b"\xef\xbb\xbf"
_object = msgspec.json.Decoder(dict[str, Any]).decode
_rows = msgspec.json.Decoder(list[dict[str, Any]]).decode


@dataclass(frozen=True, slots=True)
class Request:
    body: bytes
    params: Mapping[str, str]
    kind: str

    @property
    def key(self) -> str:
        """An Idempotency-Key: the same command, repeated, is the same batch."""
        query = "&".join(f"{name}={value}" for name, value in sorted(self.params.items()))
        return "cli-" + hashlib.sha256(query.encode() + b"\0" + self.body).hexdigest()


def of_lines(content: bytes, params: Mapping[str, str]) -> Request:
    """Mails as NDJSON or a JSON array, or a whole request with a template: what the API reads, byte for byte."""
    if not content.removeprefix(BOM).strip():
        raise BadInput("file_empty", "The file is empty.", "Give NDJSON, a JSON array, or recipients with --template.")
    return Request(content, params, "application/json" if content.removeprefix(BOM).lstrip()[:1] == b"[" else "application/x-ndjson")


def of_template(template: bytes, content: bytes, params: Mapping[str, str], *, as_csv: bool) -> Request:
    """`content` are the recipients: CSV with a header line, a JSON array of objects, or one object a line. Raises BadInput."""
    try:
        told = _object(template.removeprefix(BOM))
    except msgspec.DecodeError as error:
        step = 'Give the fields of a mail as JSON: {"account": "billing", "to": ["{{ email }}"], "subject": "…", "text": "…"}.'
        raise BadInput("template_not_json", f"The template is not a JSON object: {error}.", step) from error
    body = told if "template" in told else {"template": told}
    body |= {"csv": _text(content)} if as_csv else {"recipients": _recipients(content.removeprefix(BOM))}
    return Request(msgspec.json.encode(body), params, "application/json")


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
