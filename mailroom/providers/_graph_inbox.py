"""Reads one folder through Microsoft Graph: the delta query, and mails as MIME.

learn.microsoft.com/graph/api/message-delta, graph/delta-query-overview, graph/outlook-get-mime-message
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from mailroom.errors import NotSent, Refused
from mailroom.model.account import Account
from mailroom.model.page import Arrival, Page
from mailroom.model.token import Token
from mailroom.ports import CursorLost
from mailroom.providers import _graph_answers as answers
from mailroom.providers import _graph_json as json
from mailroom.providers._graph_wire import GraphWire

PAGE = 50
PAGE_OF_IDS = 500
MAIL_TYPES = ("text/plain", "message/rfc822")  # the first is what Graph says (outlook-get-mime-message)


class _Item(msgspec.Struct, frozen=True):
    """An update may come with less than was selected; a new mail has it all."""

    id: str
    received: datetime | None = msgspec.field(name="receivedDateTime", default=None)
    removed: dict[str, Any] | None = msgspec.field(name="@removed", default=None)


class _Delta(msgspec.Struct, frozen=True):
    value: list[_Item]
    next: str | None = msgspec.field(name="@odata.nextLink", default=None)
    delta: str | None = msgspec.field(name="@odata.deltaLink", default=None)


class GraphInbox(GraphWire):
    """ports.Inbox."""

    async def page(self, account: Account, link: str | None, token: Token, *, ids_only: bool = False, since: float = 0.0) -> Page:
        """What is asked for is baked into the links, so the first page asks for all that later ones need; only their size may change.

        No `changeType=created`: a mail that was moved away and back never counts as created again, but shows once it changes.
        """
        graph = account.profile.cloud.graph
        if link and not _same_origin(link, graph):
            raise CursorLost("The link belongs to another cloud than the account's.")
        first = (
            f"{graph}{json.user(account.address)}/mailFolders/{quote(account.folder, safe='')}/messages/delta?$select=id,receivedDateTime"
        )
        answer = await self._read(link or first, token, page_size=PAGE_OF_IDS if ids_only else PAGE)
        if answers.lost_cursor(answer.status_code, answer.content):
            raise CursorLost(f"Graph answered {answer.status_code}.")
        _raise_for(answer)
        return _page(answer.content, graph)

    async def mime(self, account: Account, message_id: str, token: Token) -> bytes | None:
        """Raises Refused when Exchange can't turn this very mail into MIME, now or later."""
        url = f"{account.profile.cloud.graph}{json.user(account.address)}/messages/{quote(message_id, safe='')}/$value"
        answer = await self._read(url, token)
        if answers.gone(answer.status_code, answer.content):
            return None
        if answers.unreadable(answer.status_code, answer.content):
            raise Refused("mail_unreadable", f"Graph answered {answer.status_code} for its MIME.", "Look at the mail in Outlook.")
        _raise_for(answer)
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind not in MAIL_TYPES:  # a proxy's page or another answer under a good status is no mail
            raise NotSent("answer_unreadable", f"Graph's answer for a mail's MIME is {kind[:60] or 'of no type'}.")
        return answer.content

    async def _read(self, url: str, token: Token, *, page_size: int | None = None) -> httpx.Response:
        try:
            return await self._get(url, token, page_size=page_size)
        except httpx.RequestError as error:
            raise answers.unanswered(error) from error


def _page(body: bytes, graph: str) -> Page:
    try:
        delta = msgspec.json.decode(body, type=_Delta)
    except msgspec.DecodeError as error:
        raise NotSent("answer_unreadable", f"Graph's page can't be read: {error}.") from error
    link = delta.next or delta.delta
    if link is None:
        raise NotSent("answer_unreadable", "Graph's page has no link to go on from.")
    if not _same_origin(link, graph):  # following it would carry our token there
        raise NotSent("link_foreign", "Graph's page links to another host.", "Check the cloud's graph URL, and who answers there.")
    arrivals = tuple(Arrival(item.id, item.received) for item in delta.value if item.received and item.removed is None)
    return Page(arrivals, link, last=delta.next is None)


def _same_origin(link: str, graph: str) -> bool:
    """Links come back in another shape than was asked for: only their origin can be compared."""
    try:
        theirs, ours = urlsplit(link), urlsplit(graph)
    except ValueError:
        return False
    return (theirs.scheme.lower(), theirs.netloc.lower()) == (ours.scheme.lower(), ours.netloc.lower())


def _raise_for(answer: httpx.Response) -> None:
    error = answers.to_question(answer.status_code, answer.headers, answer.content)
    if error:
        raise error
