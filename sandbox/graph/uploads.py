"""Upload sessions of large attachments: learn.microsoft.com/graph/outlook-large-attachments.

Their URL carries its own authorization, and answers in other letters than the session's beginning did.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from sandbox.graph import ids
from sandbox.graph.call import Answer, Call
from sandbox.graph.errors import GraphError, bad_request, too_long
from sandbox.graph.items import Attachment, Item
from sandbox.graph.mailbox import Mailbox

PREFIX = "api/v2.0"
CHUNK = 4 * 1024 * 1024
LIFETIME = timedelta(hours=24)
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(slots=True, eq=False)
class Upload:
    box: Mailbox
    item: Item
    where: str
    ends: str
    size: int
    made: Attachment
    data: bytearray = field(default_factory=bytearray)


class Uploads:
    def __init__(self) -> None:
        self._open: dict[str, Upload] = {}

    def begin(self, call: Call, item: Item, asked: dict[str, Any]) -> Answer:
        token = secrets.token_urlsafe(32)
        ends = (call.box.time() + LIFETIME).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        kind = asked.get("contentType") or "application/octet-stream"
        new_id = ids.attachment_id(item.immutable_id, secrets.randbits(62))
        cid, inline = asked.get("contentId"), bool(asked.get("isInline"))
        made = Attachment(new_id, asked["name"], b"", kind, call.box.time(), inline=inline, content_id=cid)
        origin = call.base.removesuffix("/v1.0")
        where = f"{origin}/{PREFIX}/Users('{quote(call.user, safe='')}')/Messages('{quote(item.id, safe='')}')"
        self._open[token] = Upload(call.box, item, where, ends, asked["size"], made)
        url = f"{where}/AttachmentSessions('{quote(new_id, safe='')}')?authtoken={token}"
        body = {
            "@odata.context": f"{call.base}/$metadata#microsoft.graph.uploadSession",
            "uploadUrl": url,
            "expirationDateTime": ends,
            "nextExpectedRanges": ["0-"],
        }
        return Answer(201, body)

    def take(self, method: str, token: str, content_range: str, data: bytes) -> Answer:
        upload = self._open.get(token)
        if upload is None or upload.item.folder.items.get(upload.item.number) is not upload.item:
            raise GraphError(404, "ErrorItemNotFound", "The upload session was not found, or it has ended.")
        if method == "DELETE":
            del self._open[token]
            return Answer(204)
        if method == "GET":
            return _more(upload)
        if method != "PUT":
            raise GraphError(405, "ErrorInvalidRequest", "The OData request is not supported.")
        _check_range(upload, content_range, data)
        upload.data += data
        if len(upload.data) < upload.size:
            return _more(upload)
        del self._open[token]
        return _complete(upload)


def _check_range(upload: Upload, content_range: str, data: bytes) -> None:
    if len(data) > CHUNK:
        raise too_long()
    found = _RANGE.fullmatch(content_range.strip())
    if found is None:
        raise bad_request("The Content-Range header is missing or malformed.", "ErrorInvalidParameter")
    start, end, size = map(int, found.groups())
    if size != upload.size or end >= size or end - start + 1 != len(data):
        raise bad_request("The Content-Range header does not fit the session or the content.", "ErrorInvalidParameter")
    if start != len(upload.data):
        raise bad_request(f"The range must start at {len(upload.data)}.", "ErrorInvalidParameter")


def _more(upload: Upload) -> Answer:
    """A bare offset, and a capital E."""
    return Answer(200, {"ExpirationDateTime": upload.ends, "nextExpectedRanges": [str(len(upload.data))]})


def _complete(upload: Upload) -> Answer:
    upload.made.content = bytes(upload.data)
    upload.item.attachments.append(upload.made)
    upload.item.mime = None
    upload.box.touch(upload.item)
    return Answer(201, b"", {"Location": f"{upload.where}/Attachments('{quote(upload.made.id, safe='')}')"})
