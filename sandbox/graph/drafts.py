"""Mails as applications write them: checked, and put into a mailbox as drafts."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import replace
from email.utils import make_msgid
from typing import Any

from sandbox.graph import contract, ids, mime
from sandbox.graph.call import Call
from sandbox.graph.errors import GraphError, bad_request, denied
from sandbox.graph.items import Attachment, Folder, Item, address_of, header_property, property_id
from sandbox.graph.post import finish

HEADERS = 5
RECIPIENTS = 500
ALWAYS = frozenset(
    {"categories", "flag", "importance", "inferenceClassification", "isRead", "isReadReceiptRequested", *contract.NAVIGATION}
)
_ATOM = r"[^\s@<>()\[\],;:\"\\.]+"
_ADDRESS = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
_HEADER = re.compile(r"x-[!-9;-~]*", re.IGNORECASE)


def from_json(call: Call, message: dict[str, Any], folder: str | Folder = "drafts") -> Item:
    """`message` as the contract read it."""
    settable(message)
    headers = _headers(message) if "internetMessageHeaders" in message else []
    item = call.box.put(folder, {**_blank(call), **_props(message)}, headers=headers)
    item.extended = {header_property(name): value for name, value in headers}
    try:
        _apply(item, message)
    except GraphError:  # what was refused leaves nothing behind
        call.box.purge(item)
        raise
    finish(call.box, item)
    return item


def from_mime(call: Call, folder: str | Folder = "drafts") -> Item:
    raw = _decoded(call.body)
    read = mime.read(raw)
    item = call.box.put(
        folder, {**_blank(call), **read.props, "sentDateTime": call.box.time()}, extended=read.extended, headers=read.headers, mime=raw
    )
    item.attachments = mime.attachments(read, item)
    finish(call.box, item)
    return item


def update(call: Call, item: Item, changes: dict[str, Any]) -> None:
    """What a mail says stays as it is once it was sent: learn.microsoft.com/graph/api/message-update."""
    settable(changes)
    if "internetMessageHeaders" in changes or "attachments" in changes:
        raise _not_settable("internetMessageHeaders" if "internetMessageHeaders" in changes else "attachments")
    if not item.props["isDraft"] and changes.keys() - ALWAYS:
        raise denied()
    _apply(item, changes)  # what is refused changes nothing
    item.props.update(_props(changes))
    if changes.keys() - ALWAYS:
        item.mime = None
    call.box.touch(item)


def settable(message: dict[str, Any]) -> None:
    wrong = next((name for name in message if name in contract.READ_ONLY), None)
    if wrong:
        raise _not_settable(wrong)


def ready(call: Call, item: Item) -> None:
    """Raises what Exchange would on submission. That an address does not exist it says later, by mail."""
    recipients = item.recipients
    wrong = next((address for address in recipients if not _ADDRESS.fullmatch(address) or len(address) > 320), None)
    if wrong is not None:
        resolved = f"Recipient '{wrong}' is not resolved. All recipients must be resolved before a message can be submitted."
        raise bad_request(f"At least one recipient is not valid., {resolved}", "ErrorInvalidRecipients")
    if not recipients:
        raise bad_request("At least one recipient is not valid.", "ErrorInvalidRecipients")
    if len(recipients) > RECIPIENTS:
        raise bad_request(f"The message has more than {RECIPIENTS} recipients.", "ErrorExceededMaxRecipientLimit")
    _signed(call, item)


def _signed(call: Call, item: Item) -> None:
    """Who may send as another is that other to the recipient; who may only send on behalf stays its sender."""
    own = call.box.address.lower()
    other, sender = address_of(item.props.get("from")).lower(), address_of(item.props.get("sender")).lower()
    directory = call.office.directory
    if sender not in (own, other) or (other != own and (own, other) not in directory.send_as | directory.on_behalf):
        raise _send_as_denied()
    if other != own:
        item.props["sender"] = item.props["from"] if (own, other) in directory.send_as else call.box.owner


def attachment(item: Item, one: dict[str, Any]) -> Attachment:
    """From its JSON."""
    kind = one["@odata.type"].removeprefix("#microsoft.graph.").removesuffix("Attachment")
    if not one.get("name"):
        raise bad_request("The required property 'name' is missing.", "ErrorRequiredPropertyMissing")
    needed = {"file": "contentBytes", "item": "item"}.get(kind, "name")
    if one.get(needed) is None:
        raise bad_request(f"The required property '{needed}' is missing.", "ErrorRequiredPropertyMissing")
    content = _enclosed(item, one["item"]) if kind == "item" else one.get("contentBytes") or b""
    kind_of = one.get("contentType") or "application/octet-stream"
    new_id = ids.attachment_id(item.immutable_id, len(item.attachments) + item.changed * 1000)
    inline = bool(one.get("isInline"))
    return Attachment(new_id, one["name"], content, kind_of, item.props["lastModifiedDateTime"], kind, inline, one.get("contentId"))


def _enclosed(item: Item, message: dict[str, Any]) -> bytes:
    """The source of a mail that is attached to this one."""
    kept = {name: item.props[name] for name in ("from", "sentDateTime", "lastModifiedDateTime")}
    inner = replace(
        item, props={**mime.DEFAULTS, **kept, **_props(message)}, attachments=[], headers=[], extended={}, mime=None, received=False
    )
    inner.attachments = [attachment(inner, one) for one in message.get("attachments", [])]
    return mime.source(inner)


def _blank(call: Call) -> dict[str, Any]:
    owner = call.box.owner
    message_id = make_msgid(domain=call.box.address.partition("@")[2])
    return {**mime.DEFAULTS, "from": owner, "sender": owner, "isRead": True, "isDraft": True, "internetMessageId": message_id}


def _props(message: dict[str, Any]) -> dict[str, Any]:
    """What is set as it stands; a null gives the property its default."""
    own = {name: value for name, value in message.items() if name not in contract.NAVIGATION and name != "internetMessageHeaders"}
    for name in ("from", "sender", "internetMessageId"):
        if name in own and not own[name]:
            del own[name]
    for name in ("toRecipients", "ccRecipients", "bccRecipients", "replyTo"):
        own |= {name: [_person(one) for one in own[name]]} if name in own else {}
    for name in {"from", "sender"} & own.keys():
        own[name] = _person(own[name])
    if own.get("body"):
        own["body"] = {"contentType": own["body"].get("contentType") or "text", "content": own["body"].get("content") or ""}
    if own.get("subject"):
        own["subject"] = own["subject"].replace("\r", "").replace("\n", "")
    return {name: mime.DEFAULTS.get(name) if value is None else value for name, value in own.items()}


def _person(one: dict[str, Any] | None) -> dict[str, Any]:
    found = (one or {}).get("emailAddress") or {}
    address = found.get("address") or ""
    return {"emailAddress": {"name": " ".join((found.get("name") or address).split()), "address": address}}


def _apply(item: Item, message: dict[str, Any]) -> None:
    single = {property_id(one.get("id") or ""): one.get("value") for one in message.get("singleValueExtendedProperties", [])}
    item.several |= {property_id(one.get("id") or ""): one.get("value") or [] for one in message.get("multiValueExtendedProperties", [])}
    for one in message.get("attachments", []):
        item.attachments.append(attachment(item, one))
    item.extensions += message.get("extensions", [])
    kept = {name: value for name, value in {**item.extended, **single}.items() if value is not None}
    item.extended = kept  # a null takes the property away


def _headers(message: dict[str, Any]) -> list[tuple[str, str]]:
    given = message["internetMessageHeaders"]
    if not given:
        raise bad_request("The internet message header collection must not be empty.", "InvalidInternetMessageHeaderCollection")
    if len(given) > HEADERS:
        said = f"Maximum number of headers in one message should be less than or equal to {HEADERS}."
        raise bad_request(said, "InvalidInternetMessageHeaderCollection")
    return [_header(one.get("name") or "", one.get("value") or "") for one in given]


def _header(name: str, value: str) -> tuple[str, str]:
    if not name.lower().startswith("x-"):
        raise bad_request(f"The internet message header name '{name}' should start with 'x-' or 'X-'.", "InvalidInternetMessageHeader")
    if not _HEADER.fullmatch(name) or "\r" in value or "\n" in value:
        raise bad_request(f"The internet message header '{name}' is malformed.", "InvalidInternetMessageHeader")
    return name, value


def _decoded(body: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error as error:
        raise bad_request("Invalid base64 string for MIME content.", "ErrorMimeContentInvalidBase64String") from error


def _not_settable(name: str) -> GraphError:
    return bad_request(f"Set action is invalid for property '{name}'.", "ErrorInvalidPropertySet")


def _send_as_denied() -> GraphError:
    who = "The user account which was used to submit this request does not have the right to send mail on behalf of"
    return GraphError(403, "ErrorSendAsDenied", f"{who} the specified sending account., Cannot submit message.")
