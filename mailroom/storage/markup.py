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


class Listed(NamedTuple):
    name: str
    modified: datetime


def message(body: bytes) -> bytes:
    """Base64 has nothing to escape."""
    return b"<QueueMessage><MessageText>" + base64.b64encode(body) + b"</MessageText></QueueMessage>"


def tickets(answer: bytes) -> list[Ticket]:
    return [
        Ticket(_text(one, "MessageId"), _text(one, "PopReceipt"), _body(_text(one, "MessageText")), int(_text(one, "DequeueCount")))
        for one in _parse(answer).iter("QueueMessage")
    ]


def listing(answer: bytes) -> tuple[list[Listed], str]:
    """One page of blobs, and the marker of the next page, "" on the last one."""
    root = _parse(answer)
    blobs = [Listed(_text(blob, "Name"), parsedate_to_datetime(_text(blob, "Properties/Last-Modified"))) for blob in root.iter("Blob")]
    return blobs, _text(root, "NextMarker")


def _parse(answer: bytes) -> Element:
    from xml.etree import ElementTree

    try:
        return ElementTree.fromstring(answer)  # noqa: S314  # what our own storage account answered
    except ElementTree.ParseError as error:
        raise StorageDown("storage_down", "A listing was answered with what storage does not answer.") from error


def _text(element: Element, path: str) -> str:
    return element.findtext(path) or ""


def _body(text: str) -> bytes:
    """Other programs may put plain text on a queue."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return text.encode()
