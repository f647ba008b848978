"""Large mails through Microsoft Graph: a draft with our stamp, its attachments, and the one call that sends it.

Nothing here but `_send_draft` sends. A draft can be sent once: whoever tries again finds it sent, for its immutable id is remembered before
the first attachment goes up. So of a crash there remains at most a draft, which the next attempt sends when it was complete, else deletes.
learn.microsoft.com/graph/api: user-post-messages, message-send, message-permanentdelete; graph/outlook-immutable-id
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import httpx
import msgspec

from mailroom.errors import (
    DeliveryInDoubt,
    MailroomError,
    NotSent,
    ProviderError,
    Refused,
    StorageDown,
    Throttled,
    TooLarge,
)
from mailroom.events import record
from mailroom.model.account import Account
from mailroom.model.message import Attachment, Message, Outgoing, Receipt
from mailroom.model.places import OUTBOX_CONTAINER
from mailroom.model.token import Token
from mailroom.providers import _graph_answers as answers
from mailroom.providers import _graph_json as json
from mailroom.providers._graph_ids import ids, named, unanswered
from mailroom.providers._graph_plan import SESSION_FROM, plan
from mailroom.providers._graph_upload import upload
from mailroom.providers._graph_wire import GraphWire
from mailroom.providers._uploads import loaded, part, with_content

JSON = "application/json"
NO_SUCH_ACTION = frozenset({400, 405, 501})  # the national clouds know no permanentDelete


class _Kept(msgspec.Struct, frozen=True):
    """What is remembered of a mail's draft; `ready` when all of its attachments are there."""

    id: str
    ready: bool = False


class GraphDrafts(GraphWire):
    """ports.Preparer."""

    def admit(self, account: Account, message: Message) -> None:
        plan(message, self._now(), account.permissions)

    async def prepare(self, account: Account, mail: Outgoing, token: Token) -> Outgoing | Receipt | ProviderError:
        try:
            if plan(mail.message, self._now(), account.permissions).path != "draft":
                return await loaded(mail, self._store())
            return await self._drafted(account, mail, token)
        except Throttled as error:  # whatever it was that waits, nothing was sent
            return NotSent(error.code, error.detail, error.next_step, retry_after=error.retry_after)
        except ProviderError as error:
            return error
        except TooLarge as error:
            return Refused(error.code, error.detail, error.next_step)
        except StorageDown as error:
            return NotSent(error.code, error.detail, error.next_step)
        except httpx.RequestError as error:
            return answers.unanswered(error)

    async def rehearse(self, account: Account, token: Token) -> None:
        mail = Outgoing("rehearsal", Message(account.name, subject="Mailroom check", text="This draft is deleted at once."))
        try:
            await self._discard(account, await self._create(account, mail, token), token)
        except httpx.RequestError as error:
            raise answers.unanswered(error) from error

    async def _find(self, account: Account, folder: str, mails: Sequence[Outgoing], token: Token, at_once: int = 1) -> list[str | None]:
        raise NotImplementedError

    async def _drafted(self, account: Account, mail: Outgoing, token: Token) -> Outgoing | Receipt:
        kept = await self._remembered(mail)
        waits = await self._is_draft(account, kept.id, token) if kept else None
        if kept and waits is False:
            return Receipt("draft", kept.id, note="Its draft was found sent.")
        if kept and waits and kept.ready:
            return msgspec.structs.replace(mail, draft=kept.id)
        [by_stamp] = await self._find(account, "drafts", [mail], token)
        for leftover in {kept.id if kept and waits else None, by_stamp} - {None}:
            await self._discard(account, str(leftover), token)
        return await self._new_draft(account, mail, token)

    async def _new_draft(self, account: Account, mail: Outgoing, token: Token) -> Outgoing:
        draft = await self._create(account, mail, token)
        await self._remember(mail, _Kept(draft))
        try:
            for one in mail.message.uploads:
                await self._attach(account, draft, one, token)
        except Refused:
            await self._discard(account, draft, token)
            raise
        await self._remember(mail, _Kept(draft, ready=True))
        record("draft.ready", account=account.name, stamp=mail.stamp, bytes=sum(one.length for one in mail.message.uploads))
        return msgspec.structs.replace(mail, draft=draft)

    async def _create(self, account: Account, mail: Outgoing, token: Token) -> str:
        """With all of the mail but its uploads, in MIME where JSON has no words for it."""
        rest = msgspec.structs.replace(mail, message=json.without_uploads(mail.message))
        mime = rest.message.needs_mime
        body = json.mime_payload(rest, account.address, self._now()) if mime else json.draft_payload(rest)
        answer = await self._post(account, f"{json.user(account.address)}/messages", token, body, "text/plain" if mime else JSON)
        _raise(answers.to_step(answer.status_code, answer.headers, answer.content, 201))
        return answers.made(answer.content)

    async def _attach(self, account: Account, draft: str, one: Attachment, token: Token) -> None:
        path = f"{_path(account, draft)}/attachments"
        if one.length < SESSION_FROM:
            answer = await self._post(account, path, token, json.attachment_payload(await with_content(one, self._store())), JSON)
            _raise(answers.to_step(answer.status_code, answer.headers, answer.content, 201))
            return
        answer = await self._post(account, f"{path}/createUploadSession", token, json.session_payload(one), JSON)
        _raise(answers.to_step(answer.status_code, answer.headers, answer.content, 200, 201))
        url = answers.session_url(answer.content)
        if httpx.URL(url).scheme != httpx.URL(account.profile.cloud.graph).scheme:
            raise NotSent("answer_unreadable", "Graph's upload session has no URL that can be used.")

        async def read(start: int, length: int) -> bytes:
            return await part(one, start, length, self._store())

        await upload(self._client, url, one.length, read, self._sleep)

    async def _send_draft(self, account: Account, mail: Outgoing, draft: str, token: Token) -> Receipt | ProviderError:
        try:
            answer = await self._post(account, f"{_path(account, draft)}/send", token, b"")
        except httpx.RequestError as error:
            return named(answers.unsent(error), unanswered(error))
        failed = answers.to_send(answer.status_code, answer.headers, answer.content)
        if failed is None:
            return Receipt("draft", draft, *ids(answer))
        failed = named(failed, ids(answer))
        if answers.gone(answer.status_code, answer.content):
            return NotSent("draft_gone", "The mail's draft is gone.", "It is made anew by itself.", retry_after=1.0)
        return await self._unless_sent(account, mail, token, failed) if isinstance(failed, Refused) else failed

    async def _unless_sent(self, account: Account, mail: Outgoing, token: Token, refusal: Refused) -> ProviderError:
        """A draft that is sent already, or on its way, is refused as well: only one that still lies there was not sent."""
        doubt = DeliveryInDoubt("answer_unclear", refusal.detail)
        try:
            [there] = await self._find(account, "drafts", [mail], token)
            if there is None:
                return doubt
            await self._discard(account, there, token)
        except (ProviderError, httpx.RequestError):
            return doubt
        return refusal

    async def _is_draft(self, account: Account, item: str, token: Token) -> bool | None:
        answer = await self._get(f"{account.profile.cloud.graph}{_path(account, item)}?$select=id,isDraft", token)
        if not answers.gone(answer.status_code, answer.content):
            _raise(answers.to_question(answer.status_code, answer.headers, answer.content))
        return answers.is_draft(answer.status_code, answer.content)

    async def _discard(self, account: Account, draft: str, token: Token) -> None:
        """For good, so that no late request can send it; where the cloud does not know how, to Deleted Items."""
        answer = await self._post(account, f"{_path(account, draft)}/permanentDelete", token, b"")
        if answer.status_code in NO_SUCH_ACTION:
            answer = await self._delete(account, _path(account, draft), token)
        if not answers.gone(answer.status_code, answer.content):
            _raise(answers.to_step(answer.status_code, answer.headers, answer.content, 204))

    async def _remembered(self, mail: Outgoing) -> _Kept | None:
        body = await self._store().get_blob(OUTBOX_CONTAINER, _place(mail))
        return msgspec.json.decode(body, type=_Kept) if body else None

    async def _remember(self, mail: Outgoing, kept: _Kept) -> None:
        await self._store().put_blob(OUTBOX_CONTAINER, _place(mail), msgspec.json.encode(kept), content_type=JSON)


def _path(account: Account, item: str) -> str:
    return f"{json.user(account.address)}/messages/{quote(item, safe='')}"


def _place(mail: Outgoing) -> str:
    return f"drafts/{mail.stamp}"


def _raise(error: MailroomError | None) -> None:
    if error:
        raise error
