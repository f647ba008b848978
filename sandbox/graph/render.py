"""Items and folders as Graph shows them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from sandbox.graph import contract, mime
from sandbox.graph.items import Attachment, Folder, Item
from sandbox.graph.query import Preferences, Shape

ON_REQUEST = ("internetMessageHeaders", "uniqueBody")
BASIC_HIDES = ("body", "bodyPreview", "uniqueBody")  # learn.microsoft.com/graph/permissions-reference, Mail.ReadBasic


def message(item: Item, shape: Shape, prefer: Preferences, *, basic: bool = False) -> dict[str, Any]:
    usual = (name for name in contract.TYPES["message"] if name not in (*ON_REQUEST, *contract.NAVIGATION))
    names: Collection[str] = shape.select if shape.select is not None else list(usual)
    shown: dict[str, Any] = {"@odata.etag": f'W/"{change_key(item)}"', "id": id_of(item, prefer)}
    for name in contract.TYPES["message"]:
        if name in names and name != "id" and name not in contract.NAVIGATION and not (basic and name in BASIC_HIDES):
            shown[name] = _value(name, item, prefer)
    if shape.attachments:
        shown["attachments"] = [attachment(one) for one in item.attachments]
    if shape.extensions:
        shown["extensions"] = item.extensions
    return shown | _expanded("single", shape.properties, item.extended) | _expanded("multi", shape.several, item.several)


def folder(one: Folder, folders: Collection[Folder]) -> dict[str, Any]:
    return {
        "id": one.id,
        "displayName": one.name,
        "parentFolderId": one.parent,
        "childFolderCount": sum(other.parent == one.id for other in folders),
        "unreadItemCount": one.unread,
        "totalItemCount": len(one.items),
        "sizeInBytes": sum(len(item.props.get("body", {}).get("content") or "") for item in one.items.values()),
        "isHidden": False,
    }


def attachment(one: Attachment, select: Collection[str] = ()) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "@odata.type": f"#microsoft.graph.{one.kind}Attachment",
        "@odata.mediaContentType": one.content_type,
        "id": one.id,
        "lastModifiedDateTime": time(one.modified),
        "name": one.name,
        "contentType": one.content_type,
        "size": len(one.content),
        "isInline": one.inline,
    }
    if one.kind == "file":
        shown |= {"contentId": one.content_id, "contentLocation": None}
        if not select or "contentBytes" in select:
            shown["contentBytes"] = base64.b64encode(one.content).decode()
    return {name: value for name, value in shown.items() if not select or "@" in name or name in {*select, "id"}}


def _expanded(many: str, names: Collection[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Without those that it does not have; where it has none of them, nothing."""
    found = [{"id": name, "value": values[name]} for name in names if name in values]
    return {f"{many}ValueExtendedProperties": found} if found else {}


def id_of(item: Item, prefer: Preferences) -> str:
    return item.immutable_id if prefer.immutable else item.id


def change_key(item: Item) -> str:
    return base64.b64encode(b"\x09\x00\x00\x00\x16" + item.number.to_bytes(8, "big") + item.changed.to_bytes(8, "big")).decode()


def time(value: datetime) -> str:
    """To the second, though Exchange keeps more: a mail may be later than its own receivedDateTime."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _value(name: str, item: Item, prefer: Preferences) -> Any:
    worked_out = _WORKED_OUT.get(name)
    value = worked_out(item) if worked_out else item.props.get(name)
    if name in ("body", "uniqueBody") and value and prefer.text_body and value["contentType"] == "html":
        return {"contentType": "text", "content": mime.text_of(value["content"])}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return time(value) if isinstance(value, datetime) else value


def _preview(item: Item) -> str:
    body = item.props.get("body") or {}
    content = body.get("content") or ""
    return (mime.text_of(content[:20_000]) if body.get("contentType") == "html" else content)[:255]


def _headers(item: Item) -> list[dict[str, str]] | None:
    """All that a received mail came with; of one's own only what one set."""
    shown = mime.read(mime.source(item)).headers if item.received else item.headers
    return [{"name": name, "value": value} for name, value in shown] or None


_WORKED_OUT: dict[str, Callable[[Item], Any]] = {
    "bodyPreview": _preview,
    "changeKey": change_key,
    "hasAttachments": lambda item: any(not one.inline for one in item.attachments),
    "internetMessageHeaders": _headers,
    "parentFolderId": lambda item: item.folder.id,
    "uniqueBody": lambda item: item.props.get("body"),
    "webLink": lambda item: f"https://outlook.office365.com/owa/?ItemID={quote(item.id, safe='')}&exvsurl=1&viewmodel=ReadMessageItem",
}
