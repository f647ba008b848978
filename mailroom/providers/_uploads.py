"""Attachments whose bytes lie in blobs, as providers read them."""

from __future__ import annotations

import msgspec

from mailroom.errors import BadSettings, Refused, StorageConflict
from mailroom.model.message import Attachment, Outgoing
from mailroom.model.places import UPLOADS_CONTAINER
from mailroom.ports import Store


def no_store() -> Store:
    raise BadSettings(["AzureWebJobsStorage: not set; uploaded attachments lie in storage"])


async def loaded(mail: Outgoing, store: Store) -> Outgoing:
    """The mail with what was uploaded in it. Raises Refused, StorageDown."""
    files = [await with_content(one, store) if one.blob else one for one in mail.message.attachments]
    return msgspec.structs.replace(mail, message=msgspec.structs.replace(mail.message, attachments=tuple(files)))


async def with_content(one: Attachment, store: Store) -> Attachment:
    content = await part(one, 0, one.length, store) if one.length else b""
    return msgspec.structs.replace(one, content=content, blob=None)


async def part(one: Attachment, start: int, length: int, store: Store) -> bytes:
    """Of the very bytes that the mail was accepted with. Raises Refused where they are gone or others, StorageDown."""
    try:
        found = await store.read_blob(UPLOADS_CONTAINER, one.blob or "", start, length, etag=one.etag)
    except StorageConflict as error:
        raise Refused(
            "attachment_changed", f"{one.name!r} was uploaded anew after the mail was accepted.", "Send the mail anew."
        ) from error
    if found is None or len(found) != length:
        raise Refused("attachment_missing", f"The upload of {one.name!r} is gone.", "Upload it again and send the mail anew.")
    return found
