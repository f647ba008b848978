"""Files that lie in blobs, for mails that go by SMTP: brought into the mail before the fence, so that they take none of the call's time."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from mailroom.errors import NotSent, ProviderError, Refused, StorageConflict, StorageDown, TooLarge
from mailroom.model.account import Account
from mailroom.model.message import Attachment, Message, Outgoing, Receipt
from mailroom.model.places import UPLOADS_CONTAINER
from mailroom.model.token import Token
from mailroom.ports import Store
from mailroom.providers._smtp_servers import Server

IN_MEMORY = 50 * 1024 * 1024  # of files in one mail: it is written as a whole, and base64 makes 4 bytes of 3


class SmtpUploads:
    """ports.Preparer. Nothing is left behind that a second try would have to find."""

    _store: Callable[[], Store]

    def server(self, account: Account) -> Server:
        raise NotImplementedError

    def admit(self, account: Account, message: Message) -> None:
        size, most = raw_size(message), self.server(account).largest
        if size > most or sum(one.length for one in message.uploads) > IN_MEMORY:
            what = f"The mail has at least {size} bytes; this account takes {most}, with {IN_MEMORY} of uploaded files in it."
            raise TooLarge("mail_too_large_for_path", what, "Send a link to the files, or the mail through an account of Graph.")

    async def prepare(self, account: Account, mail: Outgoing, token: Token) -> Outgoing | Receipt | ProviderError:
        try:
            files = [await self._with_content(one) if one.blob else one for one in mail.message.attachments]
        except Refused as error:
            return error
        except StorageDown as error:
            return NotSent(error.code, error.detail, error.next_step)
        return msgspec.structs.replace(mail, message=msgspec.structs.replace(mail.message, attachments=tuple(files)))

    async def rehearse(self, account: Account, token: Token) -> None:
        """There is no permission to prove: large mails go as small ones do."""

    async def _with_content(self, one: Attachment) -> Attachment:
        try:
            found = await self._store().read_blob(UPLOADS_CONTAINER, one.blob or "", 0, one.size, etag=one.etag) if one.size else b""
        except StorageConflict as error:
            what = f"{one.name!r} was uploaded anew after the mail was accepted."
            raise Refused("attachment_changed", what, "Send the mail anew.") from error
        if found is None or len(found) != one.size:
            raise Refused("attachment_missing", f"The upload of {one.name!r} is gone.", "Upload it again and send the mail anew.")
        return msgspec.structs.replace(one, content=found, blob=None)


def raw_size(message: Message) -> int:
    """At least that many bytes go over the wire."""
    texts = len(message.text or "") + len(message.html or "")
    return texts + sum(one.length for one in message.attachments) * 4 // 3 + len(message.mime or b"")
