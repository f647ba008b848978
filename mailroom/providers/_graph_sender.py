"""Sends through Microsoft Graph, and asks it what was sent.

learn.microsoft.com/graph/api/user-sendmail and graph/json-batching. JSON mails share a `$batch`; mails in MIME go singly, for no source
shows MIME in a batch; drafts are sent one by one. Graph works at four requests of a `$batch` at a time, all that a mailbox takes from one
app: where fewer may be in flight each request waits for the one before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

import httpx
import msgspec

from mailroom.errors import DeliveryInDoubt, NotSent, ProviderError, Refused, Throttled, TokenRejected, TooLarge
from mailroom.model.account import AT_ONCE, Account
from mailroom.model.message import Message, Outgoing, Receipt
from mailroom.model.token import Token
from mailroom.providers import _graph_answers as answers
from mailroom.providers import _graph_json as json
from mailroom.providers._graph_drafts import GraphDrafts
from mailroom.providers._graph_ids import Ids, ids, named, unanswered
from mailroom.providers._graph_plan import Plan, plan
from mailroom.providers._graph_wire import IMMUTABLE

SENT_WITHIN = timedelta(days=30)
DERIVED = "Exchange derived the text part from html; the text given was not sent."
WHERE = ("sentitems", "outbox", "drafts")

Answer = Receipt | ProviderError


class GraphSender(GraphDrafts):
    """ports.Sender."""

    def check(self, message: Message) -> None:
        plan(message, self._now())

    async def send(
        self, account: Account, mails: Sequence[Outgoing], token: Token, at_once: int = AT_ONCE
    ) -> list[Receipt | ProviderError]:
        plans = [self._planned(account, mail) for mail in mails]
        results: dict[int, Answer] = {at: found for at, found in enumerate(plans) if not isinstance(found, Plan)}
        ways = {at: found.path for at, found in enumerate(plans) if isinstance(found, Plan)}
        for part in json.slices({at: json.payload(mails[at]) for at, path in ways.items() if path == "sendMail"}):
            results |= _halted(results, part) or await self._send_json(account, part, token, at_once)
        room = asyncio.Semaphore(at_once)

        async def single(at: int) -> None:
            async with room:
                results.update(_halted(results, [at]) or {at: await self._send_alone(account, mails[at], token)})

        await asyncio.gather(*(single(at) for at, path in ways.items() if path != "sendMail"))
        return [_noted(results[at], mail.message, plans[at]) for at, mail in enumerate(mails)]

    async def ask(self, account: Account, mails: Sequence[Outgoing], token: Token, at_once: int = AT_ONCE) -> list[Receipt | None]:
        """What is not in Sent Items may wait in the Outbox, as taken as any mail that was answered 202; lying in Drafts says nothing."""
        found: dict[int, Receipt] = {}
        for folder in WHERE:
            missing = [at for at in range(len(mails)) if at not in found]
            ids = await self._find(account, folder, [mails[at] for at in missing], token, at_once) if missing else []
            hits = {at: one for at, one in zip(missing, ids, strict=True) if one}
            if folder == "drafts":  # one of ours was not sent as long as it lies there: whoever could have sent it is gone by now
                hits = {at: one for at, one in hits.items() if not self._is_large(mails[at].message)}
            if hits and folder == "drafts":
                raise DeliveryInDoubt("still_a_draft", "Graph made a draft of the mail; whether it goes is open.", "It is asked for again.")
            found |= {at: Receipt("found", one, note="It waits in the Outbox." if folder == "outbox" else None) for at, one in hits.items()}
        return [found.get(at) for at in range(len(mails))]

    def _planned(self, account: Account, mail: Outgoing) -> Plan | ProviderError:
        try:
            found = plan(mail.message, self._now(), account.permissions)
        except TooLarge as error:
            return Refused(error.code, error.detail, error.next_step)
        if mail.message.uploads and mail.draft is None:
            return NotSent("not_prepared", "The mail's uploads were not brought to Graph yet.", retry_after=1.0)
        return found

    def _is_large(self, message: Message) -> bool:
        try:
            return plan(message, self._now()).path == "draft"
        except TooLarge:
            return False

    async def _send_alone(self, account: Account, mail: Outgoing, token: Token) -> Answer:
        if mail.draft is not None:
            return await self._send_draft(account, mail, mail.draft, token)
        return await self._send_one(account, json.mime_payload(mail, account.address, self._now()), token, "mime")

    async def _send_json(self, account: Account, part: Mapping[int, bytes], token: Token, at_once: int) -> dict[int, Answer]:
        if len(part) == 1:
            return {at: await self._send_one(account, body, token, "sendMail") for at, body in part.items()}
        try:
            body = json.batch_of_mails(_send_path(account), list(part.values()), chained=at_once < AT_ONCE)
            answer = await self._post(account, "/$batch", token, body, "application/json")
        except httpx.RequestError as error:
            return dict.fromkeys(part, named(answers.unsent(error), unanswered(error)))
        failed = answers.to_batch(answer.status_code, answer.headers, answer.content)
        if failed:
            return dict.fromkeys(part, named(failed, ids(answer)))
        inner = answers.inner(answer.content)
        return {at: _receipt("batch", inner.get(number), ids(answer)) for number, at in enumerate(part)}

    async def _send_one(self, account: Account, body: bytes, token: Token, path: str) -> Answer:
        content_type = "text/plain" if path == "mime" else "application/json"
        try:
            answer = await self._post(account, _send_path(account), token, body, content_type)
        except httpx.RequestError as error:
            return named(answers.unsent(error), unanswered(error))
        failed = answers.to_send(answer.status_code, answer.headers, answer.content)
        return named(failed, ids(answer)) if failed else Receipt(path, None, *ids(answer))

    async def _find(self, account: Account, folder: str, mails: Sequence[Outgoing], token: Token, at_once: int = 1) -> list[str | None]:
        """The ids of those that are in the folder."""
        since = self._now() - SENT_WITHIN
        paths = [f"{json.user(account.address)}/mailFolders/{folder}/messages?{json.stamp_query(mail, since)}" for mail in mails]
        try:
            if len(paths) == 1:
                answer = await self._get(account.profile.cloud.graph + paths[0], token)
            else:
                body = json.batch_of_questions(paths, {"Prefer": IMMUTABLE}, chained=at_once < AT_ONCE)
                answer = await self._post(account, "/$batch", token, body, "application/json")
        except httpx.RequestError as error:
            raise answers.unanswered(error) from error
        _raise(answers.to_question(answer.status_code, answer.headers, answer.content))
        if len(paths) == 1:
            return [answers.found(answer.content)]
        inner = answers.inner(answer.content)
        return [_found(inner.get(at)) for at in range(len(paths))]


def _send_path(account: Account) -> str:
    return f"{json.user(account.address)}/sendMail"


def _receipt(path: str, inner: answers.Inner | None, outer: Ids) -> Answer:
    if inner is None:
        return named(DeliveryInDoubt("answer_missing", "The batch's answer says nothing of this mail."), outer)
    headers = httpx.Headers(inner.headers)
    failed = answers.to_send(inner.status, headers, bytes(inner.body))
    own = outer._replace(request_id=headers.get("request-id", outer.request_id))
    return named(failed, own) if failed else Receipt(path, None, *own)


def _found(inner: answers.Inner | None) -> str | None:
    if inner is None:
        raise NotSent("answer_missing", "The batch's answer says nothing of this question.")
    _raise(answers.to_question(inner.status, httpx.Headers(inner.headers), bytes(inner.body)))
    return answers.found(bytes(inner.body))


def _halted(results: Mapping[int, Answer], part: Iterable[int]) -> dict[int, Answer]:
    """Where Graph has just refused our token or asked us to wait, the rest of the mails is not pressed on it: nothing of them was sent."""
    for answer in results.values():
        if isinstance(answer, TokenRejected):
            return dict.fromkeys(part, answer)
        if isinstance(answer, Throttled | NotSent):
            return dict.fromkeys(part, NotSent(answer.code, answer.detail, answer.next_step, retry_after=answer.retry_after))
    return {}


def _noted(answer: Answer, message: Message, chosen: Plan | ProviderError) -> Answer:
    if not isinstance(answer, Receipt) or not isinstance(chosen, Plan):
        return answer
    derived = not message.needs_mime and message.text is not None and message.html is not None
    return msgspec.structs.replace(answer, why=chosen.why, note=DERIVED if derived else answer.note)


def _raise(error: ProviderError | None) -> None:
    if error:
        raise error
