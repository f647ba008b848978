"""Ids that look as Exchange's do: URL-safe base64 with padding, long, case-sensitive, an immutable kind and one that a move changes."""

from __future__ import annotations

import base64
import hashlib
import re
import uuid

_ITEM, _IMMUTABLE, _FOLDER = b"\x00\x03\x24\x00", b"\x00\x09\x00\x2e", b"\x00\x03\x24\x00\x2e"
_WELL_FORMED = re.compile(r"[A-Za-z0-9_=-]{4,512}")


def _made(kind: bytes, mailbox: str, number: int, length: int) -> str:
    digest = hashlib.shake_128(f"{mailbox} {number}".encode()).digest(length)
    return base64.urlsafe_b64encode(kind + digest + number.to_bytes(8, "big")).decode()


def item_id(mailbox: str, number: int) -> str:
    return _made(_ITEM, mailbox, number, 91)


def immutable_id(mailbox: str, number: int) -> str:
    return _made(_IMMUTABLE, mailbox, number, 70)


def folder_id(mailbox: str, number: int) -> str:
    return _made(_FOLDER, mailbox, number, 66)


def attachment_id(item: str, number: int) -> str:
    return _made(_ITEM, item, number, 104)


def object_id(address: str) -> str:
    """The user's id in the directory."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, address.lower()))


def conversation_id(mailbox: str, thread: str) -> str:
    return base64.urlsafe_b64encode(b"\x00\x02\x24\x00" + hashlib.sha256(f"{mailbox} {thread}".encode()).digest()).decode()


def well_formed(text: str) -> bool:
    return _WELL_FORMED.fullmatch(text) is not None
