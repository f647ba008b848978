"""What lies in a mailbox: items, their attachments, and the names of extended properties."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sandbox.graph.errors import bad_request

if TYPE_CHECKING:
    from sandbox.graph.folders import Folder

HEADERS = "{00020386-0000-0000-c000-000000000046}"  # PS_INTERNET_HEADERS: an x- header is a named property of this set
_PROPERTY = re.compile(
    r"(?P<kind>\w+) (?:(?P<set>\{[0-9a-f-]{36}\}) (?:Name (?P<name>.+)|Id (?P<number>0x[0-9a-f]+))|(?P<tag>0x[0-9a-f]+))", re.IGNORECASE
)


@dataclass(slots=True, eq=False)
class Attachment:
    """`kind` is file, item or reference; an item's content is its MIME."""

    id: str
    name: str
    content: bytes
    content_type: str
    modified: datetime
    kind: str = "file"
    inline: bool = False
    content_id: str | None = None


@dataclass(slots=True, eq=False)
class Item:
    """A mail. `props` has Graph's names; times in it are datetimes. `arrived` is when it came into its folder, in the mailbox's count.

    `headers` are those that its sender gave beyond the usual; `mime` is the source where it came as MIME.
    """

    number: int
    id: str
    immutable_id: str
    props: dict[str, Any]
    folder: Folder
    extended: dict[str, str] = field(default_factory=dict)
    several: dict[str, list[str]] = field(default_factory=dict)
    headers: list[tuple[str, str]] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    mime: bytes | None = None
    arrived: int = 0
    changed: int = 0
    received: bool = False

    @property
    def recipients(self) -> list[str]:
        return [address_of(one) for field_ in ("toRecipients", "ccRecipients", "bccRecipients") for one in self.props.get(field_, [])]


def address_of(recipient: dict[str, Any] | None) -> str:
    return ((recipient or {}).get("emailAddress") or {}).get("address") or ""


def person(address: str, name: str = "") -> dict[str, Any]:
    return {"emailAddress": {"name": name or address, "address": address}}


def property_id(text: str) -> str:
    """The id as Exchange compares it: only the Name part is case-sensitive."""
    found = _PROPERTY.fullmatch(text.strip())
    if found is None:
        raise bad_request(f"The extended property id '{text}' is malformed.", "ErrorInvalidExtendedProperty")
    kind = found["kind"][0].upper() + found["kind"][1:]
    if found["tag"]:
        return f"{kind} {found['tag'].lower()}"
    last = f"Name {found['name']}" if found["name"] else f"Id {(found['number'] or '').lower()}"
    return f"{kind} {found['set'].lower()} {last}"


def header_property(name: str) -> str:
    return f"String {HEADERS} Name {name}"
