"""Sends through the Gmail API, and asks it what was sent.

developers.google.com/gmail/api/guides/sending. One request a mail, for Gmail's batches promise no less.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import httpx
import msgspec

from mailroom.errors import DeliveryInDoubt, NotSent, ProviderError, Refused, StorageDown, Throttled, TokenRejected, TooLarge
from mailroom.http import let_go
from mailroom.model.account import AT_ONCE, Account
from mailroom.model.message import Message, Outgoing, Receipt
from mailroom.model.token import Token
from mailroom.providers import _gmail_answers as answers
from mailroom.providers import _gmail_json as json
from mailroom.providers._gmail_upload import receipt, upload
from mailroom.providers._gmail_wire import GmailWire, address, authorized
from mailroom.providers._uploads import loaded
from mailroom.providers.mime import STAMP_HEADER

PATH = "messages.send"
MOST_CANDIDATES = 200

Answer = Receipt | ProviderError


class _Header(msgspec.Struct, frozen=True):
    name: str
    value: str


class _Payload(msgspec.Struct, frozen=True):
    headers: list[_Header] = []


class _Metadata(msgspec.Struct, frozen=True):
    """messages.get in format metadata; without a payload where no header was asked for that it has."""

    payload: _Payload = _Payload()

    def has(self, stamp: str) -> bool:
        return any(header.name.lower() == STAMP_HEADER.lower() and header.value.strip() == stamp for header in self.payload.headers)


class GmailSender(GmailWire):
    """ports.Sender and ports.Preparer."""

    def check(self, message: Message) -> None:
        size = json.too_large(message, self._now())
        if size is not None:
            why = _too_large(size)
            raise TooLarge(why.code, why.detail, why.next_step, field="attachments" if message.attachments else "")

    def admit(self, account: Account, message: Message) -> None:
        """No mail needs more than the permission to send."""

    async def prepare(self, account: Account, mail: Outgoing, token: Token) -> Outgoing | Receipt | ProviderError:
        """With its uploads in it, all of them in memory: Gmail takes no more than 35 MB."""
        try:
            return await loaded(mail, self._store())
        except StorageDown as error:
            return NotSent(error.code, error.detail, error.next_step)
        except Refused as error:
            return error

    async def rehearse(self, account: Account, token: Token) -> None:
        """Nothing: what sends needs no other permission."""

    async def send(
        self, account: Account, mails: Sequence[Outgoing], token: Token, at_once: int = AT_ONCE
    ) -> list[Receipt | ProviderError]:
        results: dict[int, Answer] = {}
        room = asyncio.Semaphore(at_once)

        async def single(at: int, mail: Outgoing) -> None:
            async with room:
                results[at] = _halted(results) or await self._send_one(account, mail, token)

        await asyncio.gather(*(single(at, mail) for at, mail in enumerate(mails)))
        return [results[at] for at in range(len(mails))]

    async def ask(self, account: Account, mails: Sequence[Outgoing], token: Token, at_once: int = AT_ONCE) -> list[Receipt | None]:
        """By the Message-ID that we gave, and where Gmail gave another, by the stamp in our own header."""
        return [await self._found(account, mail, token) for mail in mails]

    async def _send_one(self, account: Account, mail: Outgoing, token: Token) -> Answer:
        if mail.message.uploads:
            return NotSent("not_prepared", "The mail's uploads were not read yet.", retry_after=1.0)
        content = json.raw(mail, account.address, self._now())
        if len(content) > json.LIMIT:
            return _too_large(len(content))
        try:
            thread = await self._thread(account, mail.message, token)
        except ProviderError as error:  # nothing of the mail has gone by then
            return _unthreaded(error)
        if len(content) > json.SIMPLE_LIMIT:
            return await upload(self._client, account, content, thread, token)
        headers = authorized(token) | {"Content-Type": "application/json"}
        try:
            answer = await self._client.post(address(account, "/messages/send"), content=json.send_body(content, thread), headers=headers)
        except httpx.RequestError as error:
            return answers.unsent(error)
        return receipt(let_go(answer), PATH, "it fits one request")

    async def _thread(self, account: Account, message: Message, token: Token) -> str | None:
        """The thread of the mail that this one answers, where we may look for it and it is there."""
        if message.in_reply_to is None or not account.can_be_asked:
            return None
        hits = answers.found(await self._asked(account, json.by_message_id(message.in_reply_to), token), answers.Listed)
        return hits.messages[0].thread if hits.messages else None

    async def _found(self, account: Account, mail: Outgoing, token: Token) -> Receipt | None:
        named = await self._asked(account, json.by_message_id(json.message_id(mail, account.address)), token)
        hits = answers.found(named, answers.Listed).messages
        if hits:
            return Receipt("found", hits[0].id)
        return await self._stamped(account, mail, token)

    async def _stamped(self, account: Account, mail: Outgoing, token: Token) -> Receipt | None:
        """Looks at what was sent to the same address since; "not there" is only said after all of it was looked at."""
        seen, page = 0, None
        while seen < MOST_CANDIDATES:
            listed = answers.found(await self._asked(account, json.candidates(mail, self._now(), page), token), answers.Listed)
            for ref in listed.messages:
                if await self._has_stamp(account, ref.id, mail.stamp, token):
                    return Receipt("found", ref.id)
            seen, page = seen + len(listed.messages), listed.next
            if page is None:
                return None
        what = f"More than {MOST_CANDIDATES} mails went to the same address since: whether this one is among them was not found out."
        raise DeliveryInDoubt("too_many_to_search", what, "Look into Sent, then decide by hand.")

    async def _has_stamp(self, account: Account, message_id: str, stamp: str, token: Token) -> bool:
        path = f"/messages/{message_id}?format=metadata&metadataHeaders={STAMP_HEADER}"
        answer = await self._read(account, path, token)
        if answer.status_code == 404:  # deleted meanwhile
            return False
        failed = answers.to_question(answer.status_code, answer.headers, answer.content)
        if failed:
            raise failed
        return answers.found(answer.content, _Metadata).has(stamp)


def _halted(results: Mapping[int, Answer]) -> ProviderError | None:
    """Where Gmail has just refused our token or asked us to wait, the rest of the mails is not pressed on it: nothing of them was sent."""
    for answer in results.values():
        if isinstance(answer, TokenRejected):
            return answer
        if isinstance(answer, Throttled | NotSent):
            return NotSent(answer.code, answer.detail, answer.next_step, retry_after=answer.retry_after)
    return None


def _unthreaded(error: ProviderError) -> ProviderError:
    if isinstance(error, TokenRejected):
        return error
    return NotSent(error.code, error.detail, error.next_step, retry_after=error.retry_after)


def _too_large(size: int) -> Refused:
    what = f"The mail has {size} bytes as MIME; Gmail takes {json.LIMIT}."
    return Refused("mail_too_large_for_path", what, "Send smaller attachments, or a link to them: base64 makes 4 bytes of 3.")
