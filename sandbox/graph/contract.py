"""What Graph v1.0 knows of mail: the types of its metadata (microsoftgraph/msgraph-metadata) as a table, and the reader of bodies.

Types are closed here as they are in practice: Graph refuses a property that `message` does not declare, although the metadata call
the type open.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sandbox.graph.errors import bad_body

STRING, BOOLEAN, BINARY, DATE = "Edm.String", "Edm.Boolean", "Edm.Binary", "Edm.DateTimeOffset"
SMALL, LARGE = "Edm.Int32", "Edm.Int64"

ENUMS: dict[str, tuple[str, ...]] = {
    "attachmentType": ("file", "item", "reference"),
    "bodyType": ("text", "html"),
    "followupFlagStatus": ("notFlagged", "complete", "flagged"),
    "importance": ("low", "normal", "high"),
    "inferenceClassificationType": ("focused", "other"),
}

_ATTACHMENT = {
    "id": STRING,
    "contentType": STRING,
    "isInline": BOOLEAN,
    "lastModifiedDateTime": DATE,
    "name": STRING,
    "size": SMALL,
}

TYPES: dict[str, dict[str, str]] = {
    "attachmentItem": {
        "attachmentType": "attachmentType",
        "contentId": STRING,
        "contentType": STRING,
        "isInline": BOOLEAN,
        "name": STRING,
        "size": LARGE,
    },
    "dateTimeTimeZone": {"dateTime": STRING, "timeZone": STRING},
    "emailAddress": {"address": STRING, "name": STRING},
    "followupFlag": {
        "completedDateTime": "dateTimeTimeZone",
        "dueDateTime": "dateTimeTimeZone",
        "flagStatus": "followupFlagStatus",
        "startDateTime": "dateTimeTimeZone",
    },
    "internetMessageHeader": {"name": STRING, "value": STRING},
    "itemBody": {"content": STRING, "contentType": "bodyType"},
    "recipient": {"emailAddress": "emailAddress"},
    "fileAttachment": {**_ATTACHMENT, "contentBytes": BINARY, "contentId": STRING, "contentLocation": STRING},
    "itemAttachment": {**_ATTACHMENT, "item": "outlookItem"},
    "referenceAttachment": _ATTACHMENT,
    "singleValueLegacyExtendedProperty": {"id": STRING, "value": STRING},
    "multiValueLegacyExtendedProperty": {"id": STRING, "value": "[Edm.String]"},
    "mailFolder": {
        "id": STRING,
        "childFolderCount": SMALL,
        "displayName": STRING,
        "isHidden": BOOLEAN,
        "parentFolderId": STRING,
        "totalItemCount": SMALL,
        "unreadItemCount": SMALL,
        "childFolders": "[mailFolder]",
        "messageRules": "[messageRule]",
        "messages": "[message]",
        "multiValueExtendedProperties": "[multiValueLegacyExtendedProperty]",
        "singleValueExtendedProperties": "[singleValueLegacyExtendedProperty]",
    },
    "message": {
        "id": STRING,
        "bccRecipients": "[recipient]",
        "body": "itemBody",
        "bodyPreview": STRING,
        "categories": "[Edm.String]",
        "ccRecipients": "[recipient]",
        "changeKey": STRING,
        "conversationId": STRING,
        "conversationIndex": BINARY,
        "createdDateTime": DATE,
        "flag": "followupFlag",
        "from": "recipient",
        "hasAttachments": BOOLEAN,
        "importance": "importance",
        "inferenceClassification": "inferenceClassificationType",
        "internetMessageHeaders": "[internetMessageHeader]",
        "internetMessageId": STRING,
        "isDeliveryReceiptRequested": BOOLEAN,
        "isDraft": BOOLEAN,
        "isRead": BOOLEAN,
        "isReadReceiptRequested": BOOLEAN,
        "lastModifiedDateTime": DATE,
        "parentFolderId": STRING,
        "receivedDateTime": DATE,
        "replyTo": "[recipient]",
        "sender": "recipient",
        "sentDateTime": DATE,
        "subject": STRING,
        "toRecipients": "[recipient]",
        "uniqueBody": "itemBody",
        "webLink": STRING,
        "attachments": "[attachment]",
        "extensions": "[extension]",
        "multiValueExtendedProperties": "[multiValueLegacyExtendedProperty]",
        "singleValueExtendedProperties": "[singleValueLegacyExtendedProperty]",
    },
    "sendMail": {"message": "message", "saveToSentItems": BOOLEAN},
    "reply": {"message": "message", "comment": STRING},
    "forward": {"message": "message", "comment": STRING, "toRecipients": "[recipient]"},
    "move": {"destinationId": STRING},
    "createUploadSession": {"attachmentItem": "attachmentItem"},
}
ACTIONS = ("sendMail", "reply", "forward", "move", "createUploadSession")  # their parameters are named in any case
ABSTRACT = {"attachment": ("fileAttachment", "itemAttachment", "referenceAttachment"), "outlookItem": ("message",)}
OPEN = ("extension", "messageRule")  # taken as they come
NAVIGATION = ("attachments", "multiValueExtendedProperties", "singleValueExtendedProperties", "extensions")
READ_ONLY = frozenset(
    {
        "id",
        "bodyPreview",
        "changeKey",
        "createdDateTime",
        "hasAttachments",
        "isDraft",
        "lastModifiedDateTime",
        "parentFolderId",
        "receivedDateTime",
        "sentDateTime",
        "uniqueBody",
        "webLink",
    }
)
NOT_NULL = frozenset(
    {
        "createUploadSession.attachmentItem",
        "dateTimeTimeZone.dateTime",
        "mailFolder.id",
        "message.id",
        "move.destinationId",
        "multiValueLegacyExtendedProperty.id",
        "sendMail.message",
        "singleValueLegacyExtendedProperty.id",
        *(f"{kind}.{name}" for kind in ABSTRACT["attachment"] for name in ("id", "isInline", "size")),
    }
)

_KINDS: dict[str, type] = {STRING: str, BOOLEAN: bool, SMALL: int, LARGE: int}
_BITS = {SMALL: 31, LARGE: 63}


def read(kind: str, body: object) -> dict[str, Any]:
    """The body as this type, its names in the contract's case, enumerations as the contract writes them, binaries as bytes."""
    if not isinstance(body, dict):
        raise bad_body("A node of type 'StartObject' was expected when trying to read the contents of the request body.")
    return _structure(kind, body)


def read_derived(kind: str, body: object) -> dict[str, Any]:
    """As `read`, for an abstract type."""
    if not isinstance(body, dict):
        raise bad_body("A node of type 'StartObject' was expected when trying to read the contents of the request body.")
    return _derived(kind, body)


def _structure(kind: str, value: Mapping[str, Any]) -> dict[str, Any]:
    declared = TYPES[kind]
    names = {name.lower(): name for name in declared} if kind in ACTIONS else {name: name for name in declared}
    found: dict[str, Any] = {}
    for given, member in value.items():
        if "@" in given:
            continue  # an annotation
        name = names.get(given.lower() if kind in ACTIONS else given)
        if name is None:
            raise _unknown(given, kind)
        if member is None and f"{kind}.{name}" in NOT_NULL:
            raise _no_null(name, declared[name], "[Nullable=False]")
        found[name] = _value(declared[name], member, name)
    return found


def _value(kind: str, value: Any, name: str) -> Any:
    if kind.startswith("["):
        if not isinstance(value, list):
            raise bad_body(
                f"A null value was found for the property named '{name}', or it is no array; it has the type 'Collection({kind[1:-1]})'."
            )
        if None in value:
            raise _no_null(name, kind[1:-1], "[Nullable=False]")
        return [_value(kind[1:-1], item, name) for item in value]
    if value is None:
        return None
    if kind in OPEN and isinstance(value, dict):
        return value
    if kind in TYPES or kind in ABSTRACT or kind in OPEN:
        if not isinstance(value, dict):
            raise bad_body(f"When trying to read the value of the property '{name}', a node of type 'StartObject' was expected.")
        return _structure(kind, value) if kind in TYPES else _derived(kind, value)
    return _primitive(kind, value, name)


def _primitive(kind: str, value: Any, name: str) -> Any:
    if kind in ENUMS:
        return _member(kind, value)
    if kind == BINARY:
        return _bytes(value)
    if kind == DATE:
        return _date(value)
    fits = isinstance(value, _KINDS[kind]) and isinstance(value, bool) == (kind == BOOLEAN)
    if not fits or (kind in _BITS and value.bit_length() > _BITS[kind]):
        raise bad_body(f"Cannot convert the literal '{value}' of the property '{name}' to the expected type '{kind}'.")
    return value


def _derived(kind: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """An abstract type must say which one it is."""
    named = value.get("@odata.type")
    if not isinstance(named, str):
        raise bad_body(f"An entry without a type name was found, but the expected type 'microsoft.graph.{kind}' is abstract.")
    found = named.removeprefix("#").removeprefix("microsoft.graph.")
    if found not in ABSTRACT[kind]:
        raise bad_body(f"A type named '{named.removeprefix('#')}' could not be resolved by the model, or it is no {kind}.")
    return {"@odata.type": f"#microsoft.graph.{found}", **_structure(found, value)}


def _member(kind: str, value: Any) -> str:
    found = next((member for member in ENUMS[kind] if isinstance(value, str) and member.lower() == value.lower()), None)
    if found is None:
        raise bad_body(f"Requested value '{value}' was not found in the enumeration 'microsoft.graph.{kind}'.")
    return found


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise bad_body(f"Cannot convert the literal '{str(value)[:40]}' to the expected type 'Edm.Binary'.") from error


_FRACTION = re.compile(r"(\.\d{6})\d+")


def date(value: str) -> datetime:
    """Raises ValueError. Graph writes up to seven digits of a second; a date without an offset is UTC."""
    found = datetime.fromisoformat(_FRACTION.sub(r"\1", value))
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _date(value: Any) -> datetime:
    try:
        return date(value)
    except (ValueError, TypeError) as error:
        raise bad_body(f"Cannot convert the literal '{value}' to the expected type 'Edm.DateTimeOffset'.") from error


def _no_null(name: str, kind: str, facet: str = "") -> Exception:
    return bad_body(f"A null value was found for the property named '{name}', which has the expected type '{kind}{facet}'.")


def _unknown(name: str, kind: str) -> Exception:
    if kind in ACTIONS:
        return bad_body(f"The parameter '{name}' in the request payload is not a valid parameter for the operation '{kind}'.")
    return bad_body(
        f"The property '{name}' does not exist on type 'microsoft.graph.{kind}'. Make sure to only use property names that are defined"
        " by the type or mark the type as open type."
    )
