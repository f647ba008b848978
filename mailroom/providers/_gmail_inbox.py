"""Reads one label of a mailbox through the Gmail API: first all of it since the horizon, then its history.

developers.google.com/gmail/api/guides/sync
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from urllib.parse import parse_qsl, quote, urlencode

import httpx
import msgspec

from mailroom.errors import NotSent
from mailroom.model.account import Account
from mailroom.model.page import Arrival, Page
from mailroom.model.token import Token
from mailroom.ports import CursorLost
from mailroom.providers import _gmail_answers as answers
from mailroom.providers import _gmail_json as json
from mailroom.providers._gmail_wire import GmailWire

PAGE = 50  # each mail of a page costs one question more, for its date
AT_ONCE = 4
CLOCKS_APART = 60  # seconds, storage's and Gmail's
SYSTEM_LABELS = frozenset({"INBOX", "SENT", "SPAM", "TRASH", "STARRED", "IMPORTANT", "UNREAD"})


class Place(msgspec.Struct, frozen=True):
    """Where a sync is: on a walk through the label, or in its history. `history` is where the next history begins."""

    label: str
    history: str
    walk: bool
    since: int = 0
    page: str = ""

    @classmethod
    def read(cls, link: str) -> Place:
        """Raises CursorLost for a link that is none of ours."""
        try:
            return msgspec.convert(dict(parse_qsl(link)), cls, strict=False)
        except msgspec.ValidationError as error:
            raise CursorLost("The link is none of Gmail's.") from error

    def __str__(self) -> str:
        facts = {"label": self.label, "history": self.history, "walk": str(self.walk).lower(), "since": str(self.since)}
        return urlencode(facts | ({"page": self.page} if self.page else {}))


class _Profile(msgspec.Struct, frozen=True):
    history: str = msgspec.field(name="historyId")


class _Message(msgspec.Struct, frozen=True):
    """messages.get in format minimal."""

    id: str
    date: str = msgspec.field(name="internalDate")


class _Raw(msgspec.Struct, frozen=True):
    raw: str


class _Label(msgspec.Struct, frozen=True):
    id: str
    name: str


class _Labels(msgspec.Struct, frozen=True):
    labels: list[_Label] = []


class _Added(msgspec.Struct, frozen=True):
    message: answers.Ref
    labels: list[str] = msgspec.field(name="labelIds", default=[])


class _Record(msgspec.Struct, frozen=True):
    arrived: list[_Added] = msgspec.field(name="messagesAdded", default=[])
    labelled: list[_Added] = msgspec.field(name="labelsAdded", default=[])


class _History(msgspec.Struct, frozen=True):
    history: list[_Record] = []
    newest: str = msgspec.field(name="historyId", default="")
    next: str | None = msgspec.field(name="nextPageToken", default=None)


class GmailInbox(GmailWire):
    """ports.Inbox."""

    async def page(self, account: Account, link: str | None, token: Token, *, ids_only: bool = False, since: float = 0.0) -> Page:
        """The first page of a walk notes where the history stands, so that what comes meanwhile is seen after it."""
        place = Place.read(link) if link else await self._start(account, since, token)
        return await (self._walk if place.walk else self._follow)(account, place, token)

    async def mime(self, account: Account, message_id: str, token: Token) -> bytes | None:
        answer = await self._read(account, f"/messages/{quote(message_id, safe='')}?format=raw", token)
        if answer.status_code == 404:
            return None
        _raise_for(answer)
        try:
            return base64.urlsafe_b64decode(answers.found(answer.content, _Raw).raw + "==")
        except binascii.Error as error:
            raise NotSent("answer_unreadable", "Gmail's copy of a mail is no base64.") from error

    async def _start(self, account: Account, since: float, token: Token) -> Place:
        label = await self._label(account, token)
        profile = answers.found(await self._asked(account, "/profile", token), _Profile)
        return Place(label, profile.history, walk=True, since=max(0, int(since) - CLOCKS_APART))

    async def _label(self, account: Account, token: Token) -> str:
        """The id of the account's folder: system labels are named by their ids, others have both."""
        if account.folder.upper() in SYSTEM_LABELS:
            return account.folder.upper()
        labels = answers.found(await self._asked(account, "/labels", token), _Labels).labels
        found = next((label.id for label in labels if account.folder in (label.id, label.name)), None)
        if found is None:
            raise NotSent("folder_missing", f"The mailbox has no label {account.folder!r}.", "Check the account's `folder`.")
        return found

    async def _walk(self, account: Account, place: Place, token: Token) -> Page:
        query = {"labelIds": place.label, "maxResults": str(PAGE), **_paged(place.page)}
        query |= {"q": f"after:{place.since}"} if place.since else {}
        answer = await self._read(account, f"/messages?{urlencode(query)}", token)
        if place.page and answers.lost_cursor(answer.status_code, answer.content):
            raise CursorLost(f"Gmail answered {answer.status_code}.")
        _raise_for(answer)
        listed = answers.found(answer.content, answers.Listed)
        arrivals = await self._dated(account, [ref.id for ref in listed.messages], token)
        next_page = msgspec.structs.replace(place, page=listed.next or "", walk=listed.next is not None)
        return Page(arrivals, str(next_page), last=False)

    async def _follow(self, account: Account, place: Place, token: Token) -> Page:
        query = [("startHistoryId", place.history), ("labelId", place.label), ("maxResults", str(PAGE)), *_paged(place.page).items()]
        query += [("historyTypes", "messageAdded"), ("historyTypes", "labelAdded")]
        answer = await self._read(account, f"/history?{urlencode(query)}", token)
        if answers.lost_cursor(answer.status_code, answer.content):
            raise CursorLost(f"Gmail answered {answer.status_code} for history {place.history}.")
        _raise_for(answer)
        found = answers.found(answer.content, _History)
        arrivals = await self._dated(account, _ids(found, place.label), token)
        if found.next is None and not found.newest:
            raise NotSent("answer_unreadable", "Gmail's history does not say where it ends.")
        after = msgspec.structs.replace(place, page=found.next or "", history=place.history if found.next else found.newest)
        return Page(arrivals, str(after), last=found.next is None)

    async def _dated(self, account: Account, ids: list[str], token: Token) -> tuple[Arrival, ...]:
        """Lists tell no dates. What is gone by now is no arrival."""
        room = asyncio.Semaphore(AT_ONCE)

        async def one(message_id: str) -> Arrival | None:
            async with room:
                answer = await self._read(account, f"/messages/{quote(message_id, safe='')}?format=minimal", token)
            if answer.status_code == 404:
                return None
            _raise_for(answer)
            found = answers.found(answer.content, _Message)
            return Arrival(found.id, json.utc(found.date))

        dated = await asyncio.gather(*map(one, ids))
        return tuple(arrival for arrival in dated if arrival)


def _ids(found: _History, label: str) -> list[str]:
    """Of mails that came, or that were given the label; each once."""
    came = [one.message.id for record in found.history for one in record.arrived]
    moved = [one.message.id for record in found.history for one in record.labelled if label in one.labels]
    return list(dict.fromkeys(came + moved))


def _paged(page: str) -> dict[str, str]:
    return {"pageToken": page} if page else {}


def _raise_for(answer: httpx.Response) -> None:
    failed = answers.to_question(answer.status_code, answer.headers, answer.content)
    if failed:
        raise failed
