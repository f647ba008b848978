"""The Graph provider against the sandbox's Graph, over TLS: what it sends arrives, what it asks is answered, what fails is told apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from mailroom.errors import DeliveryInDoubt, NotSent, Refused, Throttled, TokenRejected
from mailroom.model.account import Account, Cloud, Profile
from mailroom.model.message import Address, Attachment, Message, Outgoing, Receipt
from mailroom.model.page import Arrival, Page
from mailroom.model.token import Token
from mailroom.providers import mime
from mailroom.providers.graph import Graph
from sandbox import graph as sandbox_graph
from sandbox.ca import Ca
from sandbox.directory import GRAPH, Directory
from sandbox.faults import Faults
from sandbox.serve import serve
from sandbox.town import town
from tests.waiting import until

ANNA, BEN = "anna@mailroom.example", "ben@mailroom.example"


@dataclass
class Wire:
    """Anna's account sends and receives; what she sends to Ben is in his inbox at once."""

    directory: Directory
    faults: Faults
    graph: Graph
    cloud: Cloud

    def account(self, address: str = ANNA) -> Account:
        return Account("billing", "graph", address, Profile("graph", "client_credentials", self.directory.tenant, "c", self.cloud))

    def token(self, app: str = "graph", roles: list[str] | None = None) -> Token:
        return Token(self.directory.issue(self.directory.app(app).client_id, GRAPH, roles), 2e9)

    async def send(self, *mails: Outgoing) -> list[Any]:
        return await self.graph.send(self.account(), mails, self.token())

    async def ask(self, *mails: Outgoing) -> list[Receipt | None]:
        return await self.graph.ask(self.account(), mails, self.token())

    async def arrived(self, address: str = BEN) -> list[Any]:
        """All of that inbox, as its MIME says."""
        account, found = self.account(address), []
        for arrival in (await self.walk(address))[0]:
            raw = await self.graph.mime(account, arrival.id, self.token())
            assert raw is not None
            found.append(mime.parse(raw))
        return found

    async def walk(self, address: str = BEN, link: str | None = None) -> tuple[list[Arrival], str]:
        arrivals: list[Arrival] = []
        while True:
            page: Page = await self.graph.page(self.account(address), link, self.token())
            arrivals += page.arrivals
            link = page.next
            if page.last:
                return arrivals, link


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    directory, ca, faults = town(), Ca.create(tmp_path), Faults()
    directory.authority = "https://login.example"
    served = await serve(sandbox_graph.create(directory, faults), ca)
    cloud = Cloud("https://login.example", f"{served.url}/v1.0", f"{GRAPH}/.default", "vault", "storage")
    try:
        async with httpx.AsyncClient(verify=ca.context(), timeout=5.0) as client:
            yield Wire(directory, faults, Graph(client), cloud)
    finally:
        faults.clear()
        await served.stop()


def mail(stamp: str, **fields: Any) -> Outgoing:
    return Outgoing(stamp, Message("billing", **{"to": (Address(BEN, "Ben"),), "subject": f"About {stamp}", "text": "Hello"} | fields))


REPLY = {"in_reply_to": "<first@mailroom.example>"}


async def test_mails_of_every_path_arrive(wire: Wire) -> None:
    """A single mail, a batch, a reply and a ready mail: each is in the recipient's inbox once, and found by its stamp."""
    ready = mail("s4", mime=f"From: {ANNA}\r\nTo: {BEN}\r\nSubject: About s4\r\n\r\nReady\r\n".encode())
    mails = [mail("s1"), mail("s2"), mail("s3", **REPLY), ready]
    receipts = await wire.send(*mails)
    assert [receipt.path for receipt in receipts] == ["batch", "batch", "mime", "mime"]
    [single] = await wire.send(mail("s5"))
    assert single.path == "sendMail"
    assert sorted(one.subject for one in await wire.arrived()) == [f"About s{n}" for n in range(1, 6)]
    found = await wire.ask(*mails, mail("s5"), mail("s6"))
    assert [one.path if one else None for one in found] == ["found"] * 5 + [None]
    assert len({one.provider_id for one in found if one}) == 5


async def test_a_full_batch_arrives(wire: Wire) -> None:
    """Twenty mails in one request, each taken."""
    mails = [mail(f"s{n}") for n in range(20)]
    assert [receipt.path for receipt in await wire.send(*mails)] == ["batch"] * 20
    assert len(await wire.arrived()) == 20
    assert all(await wire.ask(*mails))


async def test_with_one_request_at_a_time_a_batch_goes_too(wire: Wire) -> None:
    """While others hold three of the mailbox's four, twenty mails go in one request that keeps to the fourth, and so does the question."""
    slow = wire.faults.add({"service": "graph", "path": "sendMail", "delay": 60.0, "times": 3})
    wire.faults.add({"service": "graph", "path": "/messages", "method": "GET", "delay": 0.01})
    wire.faults.add({"service": "graph", "path": "sendMail", "delay": 0.01})
    others = [asyncio.create_task(wire.send(mail(f"other{n}"))) for n in range(3)]
    await until(lambda: slow.hits == 3)
    mails, (account, token) = [mail(f"s{n}") for n in range(20)], (wire.account(), wire.token())
    assert {type(one) for one in await wire.graph.send(account, mails[:10], token)} == {Receipt, Throttled}
    assert {type(one) for one in await wire.graph.send(account, mails[10:], token, 1)} == {Receipt}
    assert all(await wire.graph.ask(account, mails[10:], token, 1))
    wire.faults.clear()
    await asyncio.gather(*others)


async def test_what_comes_after_a_bad_mail_in_a_chain_was_not_tried(wire: Wire) -> None:
    """Nobody has to ask for it: it goes with the next ticket, at once."""
    mails = [mail("s0"), mail("s1", to=(Address("no address"),)), mail("s2"), mail("s3")]
    answers = await wire.graph.send(wire.account(), mails, wire.token(), 1)
    assert [type(one) for one in answers] == [Receipt, Refused, NotSent, NotSent]
    assert [(one.code, one.retry_after) for one in answers[2:] if isinstance(one, NotSent)] == [("not_tried", 1.0)] * 2
    assert [one is not None for one in await wire.ask(*mails)] == [True, False, False, False]


async def test_everything_of_a_mail_arrives(wire: Wire) -> None:
    """Names, copies, headers and files come out as they went in."""
    files = (Attachment("Rechnung €.pdf", b"%PDF-1.4", "application/pdf"), Attachment("l.png", b"PNG", "image/png", "logo"))
    fields: dict[str, Any] = {
        "html": "<p>Grüße</p>",
        "attachments": files,
        "headers": {"x-order": "7"},
        "reply_to": (Address(ANNA, "Änn"),),
    }
    for stamp, more in (("s1", {}), ("s2", REPLY)):
        [receipt] = await wire.send(mail(stamp, **fields, **more))
        assert isinstance(receipt, Receipt), receipt
    for found in await wire.arrived():
        assert "Grüße" in (found.html or "")
        assert {(one.name, one.size) for one in found.attachments} == {("Rechnung €.pdf", 8), ("l.png", 3)}
        assert found.to == (Address(BEN, "Ben"),)
        assert found.reply_to == (Address(ANNA, "Änn"),)


async def test_a_hidden_copy_stays_hidden(wire: Wire) -> None:
    """Bcc reaches its recipient by either path, and nobody else sees it."""
    for stamp, more in (("s1", {}), ("s2", REPLY)):
        await wire.send(mail(stamp, to=(Address("far@elsewhere.example"),), bcc=(Address(BEN),), **more))
    found = await wire.arrived()
    assert sorted(one.subject for one in found) == ["About s1", "About s2"]


@pytest.mark.parametrize(
    ("fault", "kind", "lands"),
    [
        ({"answer": "401"}, TokenRejected, False),
        ({"answer": "403"}, NotSent, False),
        ({"answer": "429", "retry_after": 1}, Throttled, False),
        ({"answer": "429", "retry_after": 1, "after_accepting": True}, Throttled, True),
        ({"answer": "503", "after_accepting": True}, Throttled, True),
        ({"answer": "504", "after_accepting": True}, DeliveryInDoubt, True),
        ({"answer": "500"}, DeliveryInDoubt, False),
        ({"answer": "cut", "after_accepting": True}, DeliveryInDoubt, True),
        ({"answer": "garbage", "after_accepting": True}, DeliveryInDoubt, True),
        ({"answer": "html"}, DeliveryInDoubt, False),
        ({"answer": "202", "retry_after": 1, "after_accepting": True}, Receipt, True),
    ],
)
async def test_what_an_answer_means_is_what_happened(wire: Wire, fault: dict[str, Any], kind: type, lands: bool) -> None:
    """Each answer is taken for no more than it says, alone and inside a batch; asking then tells what is true."""
    for path, mails in (("sendMail", [mail("s1")]), ("sendMail", [mail("s2"), mail("s3")])):
        for _ in mails:
            wire.faults.add({"service": "graph", "path": path, "times": 1, **fault})
        results = await wire.send(*mails)
        assert [type(result) for result in results] == [kind] * len(mails)
        assert [one is not None for one in await wire.ask(*mails)] == [lands] * len(mails)
        wire.faults.clear()


async def test_permissions_are_asked_of_graph(wire: Wire) -> None:
    """Without Mail.Read nothing is answered, without Mail.Send nothing is sent; neither is a fault of the mail."""
    with pytest.raises(NotSent) as caught:
        await wire.graph.ask(wire.account(), [mail("s1")], wire.token(roles=["Mail.Send"]))
    assert caught.value.code == "access_denied"
    [result] = await wire.graph.send(wire.account(), [mail("s1")], wire.token(roles=["Mail.Read"]))
    assert isinstance(result, NotSent)
    [stranger] = await wire.graph.send(wire.account("nobody@mailroom.example"), [mail("s1")], wire.token())
    assert isinstance(stranger, NotSent)
