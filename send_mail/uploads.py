"""Attachments that callers put into storage themselves, over a link that we hand out, since a request's body is whole in memory.

A caller's uploads lie in a folder of its own, named by its client id, and a mail names them without it: so nobody can name another's.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from mailroom.errors import BadInput
from mailroom.model.account import Account
from mailroom.model.message import Attachment, Message
from mailroom.model.places import UPLOADS_CONTAINER
from mailroom.model.row import Blob
from mailroom.ports import Store

LINK_LIFETIME = 3600.0
LIFETIME = 86400.0  # how long after its upload a file can be named; token_refresh.tidy keeps it longer than any mail that names it
AT_ONCE = 8
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")

Found = Mapping[str, Blob | None]


@dataclass(frozen=True, slots=True)
class Uploads:
    store: Store
    new_name: Callable[[], str]

    async def offer(self, caller: str) -> dict[str, Any]:
        """Where to PUT one file, with which headers, until when, and the name by which a mail may attach it."""
        name = f"u{self.new_name()}"
        url = await self.store.upload_link(UPLOADS_CONTAINER, f"{caller}/{name}", LINK_LIFETIME)
        ends = datetime.fromtimestamp(self.store.now() + LINK_LIFETIME, UTC)
        headers = {"x-ms-blob-type": "BlockBlob"}
        return {"blob": name, "method": "PUT", "url": url, "headers": headers, "expires": f"{ends:%Y-%m-%dT%H:%M:%SZ}"}

    async def find(self, messages: Iterable[Message], caller: str) -> Found:
        """What is known of each upload that one of the messages names, by that name; None for what is not there."""
        names = {one.blob for message in messages for one in message.uploads if one.blob}
        room = asyncio.Semaphore(AT_ONCE)

        async def look(name: str) -> tuple[str, Blob | None]:
            async with room:
                return name, await self.store.find_blob(UPLOADS_CONTAINER, f"{caller}/{name}")

        return dict(await asyncio.gather(*map(look, names)))

    def attached(self, message: Message, found: Found, caller: str) -> Message:
        """The message with its uploads pinned down: which bytes, and how many. Raises BadInput, which names the field."""
        if not message.uploads:
            return message
        files = [self._pinned(at, one, found, caller) if one.blob else one for at, one in enumerate(message.attachments)]
        return msgspec.structs.replace(message, attachments=tuple(files))

    def _pinned(self, at: int, one: Attachment, found: Found, caller: str) -> Attachment:
        field, blob = f"attachments[{at}].blob", found[one.blob or ""]
        if blob is None:
            what = f"There is no upload {one.blob!r} of yours."
            raise BadInput(
                "upload_missing", what, "PUT the file to the URL of POST /api/attachments first, then send the mail.", field=field
            )
        if self.store.now() - blob.modified > LIFETIME:
            hours = f"{LIFETIME / 3600:g} hours"
            raise BadInput("upload_expired", f"{one.blob!r} was uploaded more than {hours} ago.", "Upload the file again.", field=field)
        return msgspec.structs.replace(one, blob=f"{caller}/{one.blob}", size=blob.size, etag=blob.etag)


def check(message: Message, account: Account) -> None:
    """Raises BadInput where the account's provider takes no uploads."""
    at = next((at for at, one in enumerate(message.attachments) if one.blob), None)
    if at is not None and not account.traits.uploads:
        what = f"Account {account.name!r} sends by {account.provider}, which takes no uploads yet."
        raise BadInput("uploads_unsupported", what, "Send the file in `content`.", field=f"attachments[{at}].blob")
