"""What every provider promises that is also read, on the sandbox's Graph and on its Gmail, over TLS (ports.Inbox)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mailroom.errors import NotSent, Throttled, TokenRejected
from mailroom.model.message import Attachment, Outgoing
from mailroom.model.page import Arrival
from mailroom.model.received import Received
from mailroom.ports import CursorLost
from mailroom.providers import mime
from tests.contract.http_towns import READ_TOWNS
from tests.contract.towns import ANNA, BEN, ReadTown, mail


@dataclass
class Wire:
    town: ReadTown
    provider: Any

    async def send(self, *mails: Outgoing) -> list[Any]:
        return list(await self.provider.send(self.town.account(ANNA), mails, self.town.token(ANNA)))

    async def walk(self, link: str | None = None, address: str = BEN) -> tuple[list[Arrival], str]:
        arrivals: list[Arrival] = []
        while True:
            page = await self.provider.page(self.town.account(address), link, self.town.token(address))
            arrivals += page.arrivals
            link = page.next
            if page.last:
                return arrivals, link


@pytest.fixture(params=READ_TOWNS)
async def wire(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Wire]:
    async with READ_TOWNS[request.param](tmp_path) as town:
        yield Wire(town, town.provider())


def said(raws: list[bytes]) -> dict[str, Received]:
    """What mails say, by their Message-IDs; Graph writes one and the same mail with other boundaries each time."""
    return {str(one.message_id): one for one in map(mime.parse, raws)}


async def test_a_mail_is_read_as_it_lies_there(wire: Wire) -> None:
    """Each of them whole."""
    files = (Attachment("a.pdf", b"%PDF", "application/pdf"),)
    await wire.send(mail("s1"), mail("s2", html="<p>Grüße</p>", attachments=files), mail("s3", in_reply_to="<q@b.example>"))
    account, token = wire.town.account(BEN), wire.town.token(BEN)
    read = [await wire.provider.mime(account, arrival.id, token) for arrival in (await wire.walk())[0]]
    assert said(read) == said(wire.town.inbox(BEN))
    assert len(said(read)) == 3


async def test_a_revoked_token_is_told_apart(wire: Wire) -> None:
    """Paging and reading say that it is the token."""
    token, account = wire.town.token(ANNA), wire.town.account(ANNA)
    wire.town.turn_away(token)
    for question in (wire.provider.page(account, None, token), wire.provider.mime(account, "AAk", token)):
        with pytest.raises(TokenRejected):
            await question


@pytest.mark.parametrize(
    ("answer", "kind"),
    [("429", Throttled), ("503", Throttled), ("500", NotSent), ("cut", NotSent), ("html", NotSent), ("garbage", NotSent)],
)
async def test_a_question_without_an_answer_may_be_asked_again(wire: Wire, answer: str, kind: type[Exception]) -> None:
    """Reading changes nothing: whatever happened to a question, it is no doubt about any mail."""
    await wire.send(mail("s1"))
    [arrival] = (await wire.walk())[0]
    account, token = wire.town.account(BEN), wire.town.token(BEN)
    wire.town.faults.add({"service": wire.town.service, "path": "/messages", "method": "GET", "answer": answer})
    for question in (
        wire.provider.ask(wire.town.account(ANNA), [mail("s1")], wire.town.token(ANNA)),
        wire.walk(),
        wire.provider.mime(account, arrival.id, token),
    ):
        with pytest.raises(kind):
            await question


async def test_a_walk_sees_all_and_the_next_what_is_new(wire: Wire) -> None:
    """Page by page through the folder, then from where it ended; ids stay the same whoever asks."""
    for first in range(0, 60, 20):
        await wire.send(*[mail(f"s{n}") for n in range(first, first + 20)])
    before, link = await wire.walk()
    assert len({arrival.id for arrival in before}) == 60
    await wire.send(mail("new"))
    after, link = await wire.walk(link)
    assert len(after) == 1
    assert not {arrival.id for arrival in after} & {arrival.id for arrival in before}
    assert (await wire.walk(link))[0] == []


async def test_more_news_than_a_page_holds(wire: Wire) -> None:
    """What came since is told page by page, all of it once, and then nothing more."""
    _, link = await wire.walk()
    for first in range(0, 120, 20):
        await wire.send(*[mail(f"s{n}") for n in range(first, first + 20)])
    after, link = await wire.walk(link)
    assert len(after) == len({arrival.id for arrival in after}) == 120
    assert (await wire.walk(link))[0] == []


async def test_what_comes_during_a_walk_is_not_lost(wire: Wire) -> None:
    """A mail that arrives between two pages is seen on this walk or right after it."""
    for first in range(0, 60, 20):
        await wire.send(*[mail(f"s{n}") for n in range(first, first + 20)])
    account, token = wire.town.account(BEN), wire.town.token(BEN)
    page = await wire.provider.page(account, None, token)
    await wire.send(mail("amid"))
    rest, link = await wire.walk(page.next)
    seen = {arrival.id for arrival in (*page.arrivals, *rest, *(await wire.walk(link))[0])}
    assert len(seen) == 61


async def test_a_cursor_that_the_provider_forgot(wire: Wire) -> None:
    """It is told as lost, and a new walk sees everything."""
    await wire.send(mail("s1"))
    _, link = await wire.walk()
    wire.town.forget()
    with pytest.raises(CursorLost):
        await wire.walk(link)
    assert len((await wire.walk())[0]) == 1


async def test_a_link_of_somebody_else(wire: Wire) -> None:
    """A cursor of another provider or place is a lost one, and our token goes nowhere with it."""
    with pytest.raises(CursorLost):
        await wire.walk("https://elsewhere.example/v1.0/users/x/messages?$deltatoken=1")


async def test_a_mail_that_is_not_there(wire: Wire) -> None:
    """A well-formed id of nothing is None."""
    await wire.send(mail("s1"))
    [arrival] = (await wire.walk())[0]
    assert await wire.provider.mime(wire.town.account(ANNA), arrival.id, wire.town.token(ANNA)) is None


async def test_a_certificate_that_is_not_trusted(wire: Wire) -> None:
    """No token goes to a host that cannot prove its name, and that is told from a host that is not there."""
    async with wire.town.strangers() as strangers:
        for account, provider in strangers:
            for question in (provider.page(account, None, wire.town.token()), provider.mime(account, "AAk", wire.town.token())):
                with pytest.raises(NotSent, match="certificate_untrusted"):
                    await question


async def test_nobody_listens(wire: Wire) -> None:
    """A refused connection is a question that can be asked again."""
    account, token = wire.town.account(host="127.0.0.1:9"), wire.town.token()
    for question in (wire.provider.page(account, None, token), wire.provider.mime(account, "AAk", token)):
        with pytest.raises(NotSent, match="provider_unreachable"):
            await question
