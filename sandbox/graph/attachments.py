"""Attachments: learn.microsoft.com/graph/api/message-post-attachments, attachment-get, attachment-createuploadsession."""

from __future__ import annotations

from urllib.parse import quote

from sandbox.graph import contract, drafts, render
from sandbox.graph.call import Answer, Call, parse
from sandbox.graph.errors import GraphError, bad_request, not_found, too_large
from sandbox.graph.items import Attachment, Item
from sandbox.graph.uploads import Uploads

SMALL = 3 * 1024 * 1024  # in base64 these fill a request
LEAST = 2 * 1024 * 1024  # of a session, as measured: github.com/microsoftgraph/msgraph-sdk-java/pull/52
LARGE = 150 * 1024 * 1024


async def list_all(call: Call) -> Answer:
    select = [name.strip() for name in call.options.get("$select", "").split(",") if name.strip()]
    shown = [render.attachment(one, select) for one in call.item().attachments]
    return Answer(200, {"@odata.context": call.context("messages/attachments"), "value": shown})


async def get(call: Call) -> Answer:
    return Answer(200, render.attachment(_find(call)))


async def get_content(call: Call) -> Answer:
    one = _find(call)
    if one.kind == "reference":
        raise GraphError(405, "ErrorInvalidRequest", "The OData request is not supported.")
    return Answer(200, one.content, content_type=one.content_type)


async def create(call: Call) -> Answer:
    item = call.item()
    body = parse(call.content_type, call.body)
    made = drafts.attachment(item, contract.read_derived("attachment", body))
    _add(call, item, made)
    where = f"{call.here}/messages('{quote(call.keys[-1], safe='')}')/attachments('{quote(made.id, safe='')}')"
    return Answer(201, render.attachment(made), {"Location": where})


async def delete(call: Call) -> Answer:
    item = call.box.item(call.keys[-2])
    item.attachments.remove(_find(call))
    call.box.touch(item)
    return Answer(204)


def create_upload_session(uploads: Uploads):  # type: ignore[no-untyped-def]
    async def handle(call: Call) -> Answer:
        item = call.item()
        asked = call.json("createUploadSession").get("attachmentItem") or {}
        missing = next((name for name in ("attachmentType", "name", "size") if not asked.get(name)), None)
        if missing:
            raise bad_request(f"The required property '{missing}' of the attachment item is missing.", "ErrorInvalidParameter")
        if asked["attachmentType"] != "file":
            raise bad_request("Only files can be uploaded in a session.", "ErrorInvalidParameter")
        if asked["size"] > LARGE:
            raise too_large()
        if asked["size"] < LEAST:
            said = "The attachment size should not be less than the minimum size: 3MB."
            raise bad_request(said, "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize")
        return uploads.begin(call, item, asked)

    return handle


def _find(call: Call) -> Attachment:
    item = call.box.item(call.keys[-2])
    found = next((one for one in item.attachments if one.id == call.keys[-1]), None)
    if found is None:
        raise not_found()
    return found


def _add(call: Call, item: Item, made: Attachment) -> None:
    item.attachments.append(made)
    item.mime = None
    call.box.touch(item)
