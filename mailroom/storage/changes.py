"""Changes to table rows as requests: one alone, or up to 100 of one partition as an entity group transaction.

learn.microsoft.com/rest/api/storageservices/performing-entity-group-transactions
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence

import msgspec

from mailroom.model.row import Change
from mailroom.storage import entities

_METHODS = {"merge": "PATCH", "replace": "PUT", "upsert": "PUT", "delete": "DELETE"}
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
_ETAG = re.compile(rb"(?im)^etag: *([^\r\n]+)")
_CODE = re.compile(rb'"code": *"(\w+)"')
_INDEX = re.compile(rb'"value": *"(\d+):')


class Request(msgspec.Struct, frozen=True):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


class Outcome(msgspec.Struct, frozen=True):
    """What became of one change; of a failed transaction there is one alone, and `index` says of which change."""

    status: int
    etag: str = ""
    code: str = ""
    index: int | None = None


def request(table: str, change: Change) -> Request:
    """Without an ETag a merge, replace or delete takes any version (`*`), but there must be one; an upsert needs none."""
    row = change.row
    headers = {"accept": "application/json;odata=nometadata"}
    if change.verb in ("merge", "replace", "delete"):
        headers["if-match"] = row.etag or "*"
    if change.verb == "delete":
        return Request("DELETE", entities.address(table, row.partition, row.key), headers)
    headers["content-type"] = "application/json"
    if change.verb == "insert":
        entities.check_key(row.partition + row.key)
        return Request("POST", f"/{table}", {**headers, "prefer": "return-no-content"}, entities.encode(row))
    return Request(_METHODS[change.verb], entities.address(table, row.partition, row.key), headers, entities.encode(row))


def transaction(base: str, table: str, changes: Sequence[Change]) -> Request:
    """`base` is the table service's URL: each part names its full address."""
    boundary = uuid.uuid4().hex
    parts = [_part(boundary, base, request(table, change)) for change in changes]
    head = f"--batch_{boundary}\r\nContent-Type: multipart/mixed; boundary=changeset_{boundary}\r\n\r\n".encode()
    tail = f"--changeset_{boundary}--\r\n--batch_{boundary}--\r\n".encode()
    headers = {"accept": "application/json;odata=nometadata", "content-type": f"multipart/mixed; boundary=batch_{boundary}"}
    return Request("POST", "/$batch", headers, b"".join([head, *parts, tail]))


def outcomes(body: bytes) -> list[Outcome]:
    """The answers in a transaction's multipart body. Where all went well none has a content; else the first is the error."""
    _, *answers = _STATUS.split(body)
    return [_outcome(int(status), text) for status, text in zip(answers[::2], answers[1::2], strict=True)]


def error_code(body: bytes) -> str:
    found = _CODE.search(body)
    return found[1].decode("latin-1") if found else ""


def unconditional(change: Change) -> bool:
    """Whether doing it twice is as good as once."""
    return change.verb != "insert" and not change.row.etag


def _part(boundary: str, base: str, one: Request) -> bytes:
    headers = "".join(f"{name}: {value}\r\n" for name, value in one.headers.items())
    head = (
        f"--changeset_{boundary}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        f"{one.method} {base}{one.path} HTTP/1.1\r\n{headers}\r\n"
    )
    return head.encode() + one.body + b"\r\n"


def _outcome(status: int, text: bytes) -> Outcome:
    etag, index = _ETAG.search(text), _INDEX.search(text)
    return Outcome(status, etag[1].decode("latin-1") if etag else "", error_code(text), int(index[1]) if index else None)
