"""What every provider promises that sends and receives by API, on the sandbox's Graph and on its Gmail, over TLS."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from mailroom.connections import Connections
from mailroom.errors import DeliveryInDoubt, NotSent, Refused, Throttled, TokenRejected
from mailroom.model.account import Account, Cloud, Profile
from mailroom.model.message import Address, Attachment, Message, Outgoing, Receipt
from mailroom.model.page import Arrival
from mailroom.model.token import Token
from mailroom.ports import CursorLost
from mailroom.providers import gmail, graph, mime
from sandbox import graph as sandbox_graph
from sandbox.ca import Ca
from sandbox.directory import GRAPH
from sandbox.faults import Faults
from sandbox.google.workspace import READONLY, SEND
from sandbox.serve import serve
from sandbox.town import town
from tests.contract import sandbox_google
from tests.fakes import FakeParts

ANNA, BEN = sandbox_google.ANNA, sandbox_google.BEN


class Town(Protocol):
    """Where the provider's mailboxes are: Anna sends, what she sends to Ben is in his inbox at once."""

    service: str
    faults: Faults
    send_path: str

    def account(self, address: str) -> Account: ...

    def token(self, address: str) -> Token: ...

    def revoke(self, token: Token) -> None: ...

    def forget(self) -> None:
        """Every cursor that was handed out."""
        ...


@dataclass
class GraphTown:
    directory: Any
    graph: Any
    faults: Faults
    cloud: Cloud
    service: str = "graph"
    send_path: str = "sendMail"

    def account(self, address: str) -> Account:
        return Account("billing", "graph", address, Profile("graph", "client_credentials", "t", "c", self.cloud), traits=graph.TRAITS)

    def token(self, address: str) -> Token:
        return Token(self.directory.issue(self.directory.app("graph").client_id, GRAPH), 2e9)

    def revoke(self, token: Token) -> None:
        self.directory.revoke(token.value)

    def forget(self) -> None:
        self.graph.deltas.forget(gone=True)


@dataclass
class GoogleTown:
    office: sandbox_google.Office
    faults: Faults
    service: str = "google"
    send_path: str = "messages/send"

    def account(self, address: str) -> Account:
        return self.office.account(address)

    def token(self, address: str) -> Token:
        return Token(self.office.workspace.issue(address, [SEND, READONLY]), 2e9)

    def revoke(self, token: Token) -> None:
        self.office.workspace.revoke(token.value)

    def forget(self) -> None:
        for address in (ANNA, BEN):
            self.office.google.office.mailbox(address).forget()


@asynccontextmanager
async def graph_town(folder: Path) -> AsyncIterator[tuple[GraphTown, httpx.AsyncClient]]:
    directory, ca, faults = town((ANNA, BEN)), Ca.create(folder), Faults()
    directory.authority = "https://login.example"
    app = sandbox_graph.create(directory, faults)
    served = await serve(app, ca)
    cloud = Cloud("https://login.example", f"{served.url}/v1.0", f"{GRAPH}/.default", "vault", "storage")
    try:
        async with httpx.AsyncClient(verify=ca.context(), timeout=5.0) as client:
            yield GraphTown(directory, app, faults, cloud), client
    finally:
        faults.clear()
        await served.stop()


@asynccontextmanager
async def google_town(folder: Path) -> AsyncIterator[tuple[GoogleTown, httpx.AsyncClient]]:
    async with sandbox_google.office(folder) as office:
        yield GoogleTown(office, office.faults), office.http


@dataclass
class Wire:
    town: Town
    provider: Any

    async def send(self, *mails: Outgoing) -> list[Any]:
        return list(await self.provider.send(self.town.account(ANNA), mails, self.town.token(ANNA)))

    async def ask(self, *mails: Outgoing) -> list[Receipt | None]:
        return list(await self.provider.ask(self.town.account(ANNA), mails, self.town.token(ANNA)))

    async def walk(self, link: str | None = None, address: str = BEN) -> tuple[list[Arrival], str]:
        arrivals: list[Arrival] = []
        while True:
            page = await self.provider.page(self.town.account(address), link, self.town.token(address))
            arrivals += page.arrivals
            link = page.next
            if page.last:
                return arrivals, link

    async def arrived(self) -> list[Any]:
        """All of Ben's inbox, as its MIME says."""
        account, token = self.town.account(BEN), self.town.token(BEN)
        raws = [await self.provider.mime(account, arrival.id, token) for arrival in (await self.walk())[0]]
        return [mime.parse(raw) for raw in raws]

    def fail(self, **fault: Any) -> None:
        self.town.faults.add({"service": self.town.service, **fault})


@pytest.fixture(params=["graph", "gmail"])
async def wire(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Wire]:
    place, module = {"graph": (graph_town, graph), "gmail": (google_town, gmail)}[request.param]
    async with place(tmp_path) as (here, client):
        yield Wire(here, module.build(FakeParts(client)))


def mail(stamp: str, **fields: Any) -> Outgoing:
    return Outgoing(stamp, Message("billing", **{"to": (Address(BEN, "Ben"),), "subject": f"About {stamp}", "text": "Hello"} | fields))


REPLY = {"in_reply_to": "<first@mailroom.example>"}
READY = f"From: {ANNA}\r\nTo: {BEN}\r\nSubject: About ready\r\n\r\nReady\r\n".encode()


async def test_mails_of_every_kind_arrive_once_and_are_found(wire: Wire) -> None:
    """Plain mails, a reply and a ready one: each is in the recipient's inbox once, and found by its stamp; what was not sent is not."""
    mails = [mail("s1"), mail("s2"), mail("s3", **REPLY), mail("ready", mime=READY)]
    receipts = await wire.send(*mails)
    assert all(isinstance(receipt, Receipt) for receipt in receipts), receipts
    assert sorted(one.subject for one in await wire.arrived()) == ["About ready", "About s1", "About s2", "About s3"]
    found = await wire.ask(*mails, mail("s6"))
    assert [one is not None for one in found] == [True] * 4 + [False]
    assert len({one.provider_id for one in found if one}) == 4


async def test_a_full_slice_arrives(wire: Wire) -> None:
    """Twenty mails, each taken, each once."""
    mails = [mail(f"s{n}") for n in range(20)]
    assert all(isinstance(receipt, Receipt) for receipt in await wire.send(*mails))
    assert sorted(one.subject for one in await wire.arrived()) == sorted(f"About s{n}" for n in range(20))


async def test_everything_of_a_mail_arrives(wire: Wire) -> None:
    """Names, copies, headers and files come out as they went in."""
    files = (Attachment("Rechnung €.pdf", b"%PDF-1.4", "application/pdf"), Attachment("l.png", b"PNG", "image/png", "logo"))
    fields = {"html": "<p>Grüße</p>", "attachments": files, "headers": {"x-order": "7"}, "reply_to": (Address(ANNA, "Änn"),)}
    [receipt] = await wire.send(mail("s1", **fields))
    assert isinstance(receipt, Receipt), receipt
    [found] = await wire.arrived()
    assert "Grüße" in (found.html or "")
    assert {(one.name, one.size) for one in found.attachments} == {("Rechnung €.pdf", 8), ("l.png", 3)}
    assert found.to == (Address(BEN, "Ben"),)
    assert found.reply_to == (Address(ANNA, "Änn"),)


async def test_a_hidden_copy_stays_hidden(wire: Wire) -> None:
    """Bcc reaches its recipient, and nobody else sees it."""
    await wire.send(mail("s1", to=(Address("far@elsewhere.example"),), bcc=(Address(BEN),)))
    [arrival] = (await wire.walk())[0]
    raw = await wire.provider.mime(wire.town.account(BEN), arrival.id, wire.town.token(BEN))
    assert BEN.encode() not in raw
    assert [one is not None for one in await wire.ask(mail("s1", to=(Address("far@elsewhere.example"),), bcc=(Address(BEN),)))] == [True]


@pytest.mark.parametrize(
    ("fault", "kind", "lands"),
    [
        ({"answer": "401"}, TokenRejected, False),
        ({"answer": "429", "retry_after": 1}, Throttled, False),
        ({"answer": "429", "retry_after": 1, "after_accepting": True}, Throttled, True),
        ({"answer": "503", "after_accepting": True}, Throttled, True),
        ({"answer": "504", "after_accepting": True}, DeliveryInDoubt, True),
        ({"answer": "500"}, DeliveryInDoubt, False),
        ({"answer": "cut", "after_accepting": True}, DeliveryInDoubt, True),
        ({"answer": "cut"}, DeliveryInDoubt, False),
        ({"answer": "garbage", "after_accepting": True}, DeliveryInDoubt, True),
        ({"answer": "html"}, DeliveryInDoubt, False),
    ],
    ids=str,
)
async def test_what_an_answer_means_is_what_happened(wire: Wire, fault: dict[str, Any], kind: type, lands: bool) -> None:
    """Each answer is taken for no more than it says; asking then tells what is true."""
    wire.fail(path=wire.town.send_path, times=1, **fault)
    [result] = await wire.send(mail("s1"))
    assert type(result) is kind
    assert (result.retry_after == 1.0) is ("retry_after" in fault)
    assert [one is not None for one in await wire.ask(mail("s1"))] == [lands]


async def test_no_mail_is_ever_posted_twice(wire: Wire) -> None:
    """One call, one request a mail at most: after a fault the fault's count says so."""
    wire.fail(path=wire.town.send_path, answer="500")
    await wire.send(mail("s1"))
    [fault] = wire.town.faults.all
    assert fault.hits == 1


async def test_a_refused_token_halts_the_rest(wire: Wire) -> None:
    """A 401 amid a slice: what went is told as sent, and nothing of the others is sent with a token that is no good."""
    mails = [mail(f"s{n}", **REPLY) for n in range(8)]
    wire.fail(path=wire.town.send_path, times=4, delay=0.0, answer="401")
    results = await wire.send(*mails)
    assert {type(result) for result in results} <= {TokenRejected, Receipt}
    assert TokenRejected in {type(result) for result in results}
    wire.town.faults.clear()
    told = [isinstance(result, Receipt) for result in results]
    assert [one is not None for one in await wire.ask(*mails)] == told


async def test_a_mail_is_refused_for_what_is_wrong_with_it(wire: Wire) -> None:
    """A fault of one mail is told of that mail; its neighbours go."""
    first, second = await wire.send(mail("s1", to=(Address("no address"),)), mail("s2"))
    assert isinstance(first, Refused)
    assert first.code == "recipient_invalid"
    assert isinstance(second, Receipt)


async def test_a_revoked_token_is_told_apart(wire: Wire) -> None:
    """Sending, asking, paging and reading all say that it is the token."""
    token, account = wire.town.token(ANNA), wire.town.account(ANNA)
    wire.town.revoke(token)
    [result] = await wire.provider.send(account, [mail("s1")], token)
    assert isinstance(result, TokenRejected)
    for question in (
        wire.provider.ask(account, [mail("s1")], token),
        wire.provider.page(account, None, token),
        wire.provider.mime(account, "AAk", token),
    ):
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
    wire.fail(path="/messages", method="GET", answer=answer)
    for question in (
        wire.ask(mail("s1")),
        wire.walk(),
        wire.provider.mime(wire.town.account(BEN), arrival.id, wire.town.token(BEN)),
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


@pytest.mark.parametrize("own_connections", [True, False])
async def test_a_certificate_that_is_not_trusted(wire: Wire, own_connections: bool) -> None:
    """Neither a token nor a mail goes to a host that cannot prove its name, and that is told from a host that is not there."""
    strict = ssl.create_default_context()  # which does not know the sandbox's authority
    transport = Connections(strict) if own_connections else None
    async with httpx.AsyncClient(transport=transport, verify=strict) as client:
        provider = {"graph": graph, "gmail": gmail}[wire.town.account(ANNA).provider].build(FakeParts(client))
        account, token = wire.town.account(ANNA), wire.town.token(ANNA)
        answers = await provider.send(account, [mail("s1"), mail("s2"), mail("s3", mime=READY)], token)
        assert {(type(one), one.code) for one in answers} == {(NotSent, "certificate_untrusted")}
        assert all("SSL_CERT_FILE" in one.next_step for one in answers)
        with pytest.raises(NotSent, match="certificate_untrusted"):
            await provider.page(account, None, token)
    assert await wire.ask(mail("s1"), mail("s2"), mail("s3")) == [None] * 3


@pytest.mark.parametrize("module", [graph, gmail])
async def test_nobody_listens(module: Any) -> None:
    """A refused connection is known to be not sent, and a question that can be asked again."""
    here = "http://127.0.0.1:9"
    nowhere = Cloud("https://login.example", f"{here}/v1.0", "scope", "vault", "storage", gmail=here)
    account = Account("billing", "p", ANNA, Profile("p", "g", "t", "c", nowhere), traits=module.TRAITS)
    async with httpx.AsyncClient() as client:
        provider, token = module.build(FakeParts(client)), Token("t", 2e9)
        [result] = await provider.send(account, [mail("s1")], token)
        assert isinstance(result, NotSent)
        with pytest.raises(NotSent, match="provider_unreachable"):
            await provider.page(account, None, token)
