"""The XML of the queue and blob services, as far as we speak it."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple

from mailroom.errors import StorageDown
from mailroom.model.row import Ticket

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


_KEY_PARTS = {
    "skoid": "SignedOid",
    "sktid": "SignedTid",
    "skt": "SignedStart",
    "ske": "SignedExpiry",
    "sks": "SignedService",
    "skv": "SignedVersion",
    "value": "Value",
}


class Listed(NamedTuple):
    name: str
    modified: datetime


def message(body: bytes) -> bytes:
    """Base64 has nothing to escape."""
    return b"<QueueMessage><MessageText>" + base64.b64encode(body) + b"</MessageText></QueueMessage>"


def tickets(answer: bytes) -> list[Ticket]:
    return [_ticket(one) for one in _parse(answer).iter("QueueMessage")]


def _ticket(one: Element) -> Ticket:
    body, bare = _body(_text(one, "MessageText"))
    return Ticket(_text(one, "MessageId"), _text(one, "PopReceipt"), body, int(_text(one, "DequeueCount")), bare)


def listing(answer: bytes) -> tuple[list[Listed], str]:
    """One page of blobs, and the marker of the next page, "" on the last one."""
    root = _parse(answer)
    blobs = [Listed(_text(blob, "Name"), parsedate_to_datetime(_text(blob, "Properties/Last-Modified"))) for blob in root.iter("Blob")]
    return blobs, _text(root, "NextMarker")


def wanted_key(start: str, expiry: str) -> bytes:
    """What a user delegation key is asked for with; times are in ISO 8601."""
    return f"<KeyInfo><Start>{start}</Start><Expiry>{expiry}</Expiry></KeyInfo>".encode()


def delegation_key(answer: bytes) -> dict[str, str]:
    """By the names that a signed URL has for its parts, and `value`."""
    root = _parse(answer)
    return {name: _text(root, element) for name, element in _KEY_PARTS.items()}


def _parse(answer: bytes) -> Element:
    from xml.etree import ElementTree

    try:
        return ElementTree.fromstring(answer)  # noqa: S314  # what our own storage account answered
    except ElementTree.ParseError as error:
        raise StorageDown("storage_down", "A listing was answered with what storage does not answer.") from error


def _text(element: Element, path: str) -> str:
    return element.findtext(path) or ""


def _body(text: str) -> tuple[bytes, bool]:
    """Other programs may put plain text on a queue: then True."""
    try:
        return base64.b64decode(text, validate=True), False
    except (binascii.Error, ValueError):
        return text.encode(), True
