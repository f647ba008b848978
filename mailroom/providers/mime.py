"""Message <-> RFC 5322 bytes: writes mails, stamps ready ones, and reads what strangers wrote."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mailroom.providers._mime_writer import STAMP_HEADER, addr_spec, build

if TYPE_CHECKING:
    from mailroom.model.received import Envelope, Received

__all__ = ["STAMP_HEADER", "addr_spec", "build", "envelope", "parse", "stamped"]

_OLD_STAMP = re.compile(rb"^x-mailroom-stamp[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*(?:\n|\Z)", re.IGNORECASE | re.MULTILINE)
_END_OF_HEADERS = re.compile(rb"(?:^|\n)\r?\n")


def stamped(raw: bytes, stamp: str) -> bytes:
    """The ready mail with our stamp on top and no other's; not a byte else changes, for it may be signed."""
    end = _END_OF_HEADERS.search(raw)
    at = len(raw) if end is None else min(end.start(), 1) and end.start() + 1
    newline = b"\n" if b"\n" in raw and b"\r\n" not in raw else b"\r\n"
    return f"{STAMP_HEADER}: {stamp}".encode() + newline + _OLD_STAMP.sub(b"", raw[:at]) + raw[at:]


def envelope(raw: bytes) -> Envelope:
    """Whom a ready mail is from and for. Raises nothing: a header that can't be read has no addresses."""
    from mailroom.providers._mime_reader import envelope as read

    return read(raw)


def parse(raw: bytes) -> Received:
    """What a mail says, whoever wrote it. Raises nothing, whatever the bytes."""
    from mailroom.providers._mime_reader import parse as read

    return read(raw)
