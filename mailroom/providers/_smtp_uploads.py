"""Files that lie in blobs, for mails that go by SMTP: brought into the mail before the fence, so that they take none of the call's time."""

from __future__ import annotations

from collections.abc import Callable

from mailroom.errors import NotSent, ProviderError, Refused, StorageDown, TooLarge
from mailroom.model.account import Account
from mailroom.model.message import Message, Outgoing, Receipt
from mailroom.model.token import Token
from mailroom.ports import Store
from mailroom.providers._smtp_servers import Server
from mailroom.providers._uploads import loaded

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
            return await loaded(mail, self._store())
        except Refused as error:
            return error
        except StorageDown as error:
            return NotSent(error.code, error.detail, error.next_step)

    async def rehearse(self, account: Account, token: Token) -> None:
        """There is no permission to prove: large mails go as small ones do."""


def raw_size(message: Message) -> int:
    """At least that many bytes go over the wire."""
    texts = len(message.text or "") + len(message.html or "")
    return texts + sum(one.length for one in message.attachments) * 4 // 3 + len(message.mime or b"")
