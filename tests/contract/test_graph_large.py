"""Large mails, and mails from another address, through our Graph client, the sandbox's Graph over TLS, and uploads that lie in Azurite."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from cli import permissions
from mailroom.errors import NotSent, ProviderError, Refused, TokenRejected
from mailroom.model.account import Account, Cloud, Profile, Storage
from mailroom.model.message import Address, Attachment, Message, Outgoing, Receipt
from mailroom.model.places import UPLOADS_CONTAINER
from mailroom.model.token import Token
from mailroom.providers import mime
from mailroom.providers.graph import TRAITS, Graph
from mailroom.storage.rest import RestStore
from sandbox import graph as sandbox_graph
from sandbox.ca import Ca
from sandbox.directory import GRAPH, Directory
from sandbox.faults import Faults
from sandbox.graph import Graph as SandboxGraph
from sandbox.serve import serve
from sandbox.town import town

ANNA, BEN, SHARED = "anna@mailroom.example", "ben@mailroom.example", "office@mailroom.example"
GRANTED = frozenset({"Mail.Send", "Mail.ReadWrite"})


class Large:
    """Anna's account may send large mails; `files` holds what was uploaded, by name."""

    def __init__(self, directory: Directory, faults: Faults, office: SandboxGraph, graph: Graph, store: RestStore, url: str) -> None:
        self.directory, self.faults, self.office, self.graph, self.store = directory, faults, office, graph, store
        self.cloud = Cloud("https://login.example", f"{url}/v1.0", f"{GRAPH}/.default", "vault", "storage")
        self.files: dict[str, bytes] = {}

    def account(self, address: str = ANNA, permissions: frozenset[str] = GRANTED) -> Account:
        profile = Profile("graph", "client_credentials", self.directory.tenant, "c", self.cloud)
        return Account("billing", "graph", address, profile, permissions=permissions, traits=TRAITS)

    def token(self, *roles: str) -> Token:
        return Token(self.directory.issue(self.directory.app("graph").client_id, GRAPH, sorted(roles or GRANTED)), 2e9)

    async def upload(self, name: str, size: int) -> Attachment:
        self.files[name] = (hashlib.sha256(name.encode()).digest() * (size // 32 + 1))[:size]
        await self.store.put_blob(UPLOADS_CONTAINER, f"crm/{name}", self.files[name])
        found = await self.store.find_blob(UPLOADS_CONTAINER, f"crm/{name}")
        assert found is not None
        return Attachment(f"{name}.pdf", b"", "application/pdf", None, f"crm/{name}", found.size, found.etag)

    async def prepare(self, outgoing: Outgoing, token: Token | None = None, account: Account | None = None) -> Any:
        return await self.graph.prepare(account or self.account(), outgoing, token or self.token())

    async def send(self, outgoing: Outgoing, account: Account | None = None) -> Receipt | ProviderError:
        ready = await self.prepare(outgoing, account=account) if outgoing.message.uploads else outgoing
        assert isinstance(ready, Outgoing), ready
        [answer] = await self.graph.send(account or self.account(), [ready], self.token())
        return answer

    def got(self, address: str = BEN) -> list[Any]:
        return list(self.office.office.mailbox(address).folder("inbox").items.values())


@pytest.fixture
async def large(tmp_path: Path, storage: Storage, client: httpx.AsyncClient, place: str) -> AsyncIterator[Large]:
    directory, ca, faults = town((ANNA, BEN, SHARED)), Ca.create(tmp_path), Faults()
    directory.authority = "https://login.example"
    office = sandbox_graph.create(directory, faults)
    served = await serve(office, ca)
    store = RestStore(storage, client, None, resource="")  # type: ignore[arg-type]  # a key needs no identity

    async def at_once(seconds: float) -> None:
        return None

    try:
        async with httpx.AsyncClient(verify=ca.context(), timeout=20.0) as http:
            yield Large(directory, faults, office, Graph(http, lambda: store, sleep=at_once), store, served.url)
    finally:
        faults.clear()
        await served.stop()


def mail(stamp: str, *files: Attachment, **fields: Any) -> Outgoing:
    told = {"to": (Address(BEN, "Ben"),), "subject": f"About {stamp}", "text": "Hello", "attachments": files}
    return Outgoing(stamp, Message("billing", **told | fields))


async def test_a_large_mail_arrives_byte_for_byte(large: Large, place: str) -> None:
    """Over a session in chunks, beside a smaller file and an inline picture; the receipt says which way it went and why."""
    files = [
        await large.upload(f"{place}a", 9_000_000),
        await large.upload(f"{place}b", 2_900_000),
        Attachment("l.png", b"PNG", "image/png", "l"),
    ]
    receipt = await large.send(mail(place, *files, html='<img src="cid:l">', text=None))
    assert isinstance(receipt, Receipt), receipt
    assert (receipt.path, bool(receipt.provider_id)) == ("draft", True)
    assert "4194304" in (receipt.why or "")
    [item] = large.got()
    assert {one.name: one.content for one in item.attachments} == {
        "l.png": b"PNG",
        f"{place}a.pdf": large.files[f"{place}a"],
        f"{place}b.pdf": large.files[f"{place}b"],
    }
    assert {one.name for one in item.attachments if one.inline} == {"l.png"}
    assert await large.graph.ask(large.account(), [mail(place, *files)], large.token()) == [Receipt("found", receipt.provider_id)]


@pytest.mark.parametrize("size", [2_999_999, 3_000_000, 3_145_728, 12 * 320 * 1024, 12 * 320 * 1024 + 1])
async def test_every_size_has_its_way(large: Large, place: str, size: int) -> None:
    """On both sides of where a POST ends and a session begins, and of a whole chunk."""
    receipt = await large.send(mail(place, await large.upload(place, size), await large.upload(f"{place}2", 1_500_000)))
    assert isinstance(receipt, Receipt), receipt
    assert [len(one.content) for one in large.got()[0].attachments] == [size, 1_500_000]


async def test_a_large_reply_is_a_draft_in_mime(large: Large, place: str) -> None:
    """It keeps In-Reply-To, and is found by the stamp in its header."""
    reply = mail(place, await large.upload(place, 4_000_000), in_reply_to="<first@mailroom.example>")
    assert isinstance(await large.send(reply), Receipt)
    [item] = large.got()
    raw = await large.graph.mime(large.account(BEN), item.immutable_id, large.token())
    assert raw is not None
    assert b"In-Reply-To: <first@mailroom.example>" in raw
    assert [one.size for one in mime.parse(raw).attachments] == [4_000_000]
    assert (await large.graph.ask(large.account(), [reply], large.token()))[0] is not None


FAULTS = [
    ({"path": "AttachmentSessions", "answer": "429", "retry_after": 1, "times": 2}, None),
    ({"path": "AttachmentSessions", "answer": "503", "times": 1}, None),
    ({"path": "AttachmentSessions", "answer": "cut", "after_accepting": True, "times": 1}, None),
    ({"path": "AttachmentSessions", "answer": "500", "times": 20}, "upload_failed"),
    ({"path": "AttachmentSessions", "answer": "429", "retry_after": 300, "times": 1}, "upload_failed"),
    ({"path": "messages", "answer": "429", "retry_after": 7, "times": 1}, "throttled"),
    ({"path": "messages", "answer": "500", "times": 1}, "provider_failed"),
    ({"path": "messages", "answer": "html", "times": 1}, "provider_failed"),
    ({"path": "createUploadSession", "answer": "garbage", "times": 1}, None),
    ({"path": "createUploadSession", "answer": "403", "times": 1}, "access_denied"),
    ({"path": "createUploadSession", "answer": "401", "times": 1}, "token_rejected"),
]


@pytest.mark.parametrize(("fault", "code"), FAULTS)
async def test_what_goes_wrong_on_the_way_sends_nothing(large: Large, place: str, fault: dict[str, Any], code: str | None) -> None:
    """A chunk is repeated where that may help, the rest is told for what it is; afterwards the mail goes, once, and no draft is left."""
    going = mail(place, await large.upload(place, 8_500_000))
    large.faults.add({"service": "graph", **fault})
    first = await large.prepare(going)
    if code is not None:
        assert isinstance(first, NotSent | TokenRejected), first
        assert (first.code, large.got()) == (code, [])
    large.faults.clear()
    assert isinstance(await large.send(going), Receipt)
    assert [one.attachments[0].content for one in large.got()] == [large.files[place]]
    assert not large.office.office.mailbox(ANNA).folder("drafts").items


async def test_a_draft_that_was_sent_is_not_sent_again(large: Large, place: str) -> None:
    """Who prepares it anew hears that it went; who sends the same draft again is refused, which is no refusal of the mail."""
    going = mail(place, await large.upload(place, 4_000_000))
    ready = await large.prepare(going)
    [receipt] = await large.graph.send(large.account(), [ready], large.token())
    assert isinstance(receipt, Receipt)
    [again] = await large.graph.send(large.account(), [ready], large.token())
    assert type(again).__name__ == "DeliveryInDoubt"
    assert isinstance(await large.prepare(going), Receipt)
    assert len(large.got()) == 1


async def test_a_draft_that_somebody_deleted_is_made_anew(large: Large, place: str) -> None:
    """It is gone for good: the send says so, and the next attempt begins afresh."""
    going = mail(place, await large.upload(place, 4_000_000))
    ready = await large.prepare(going)
    box = large.office.office.mailbox(ANNA)
    box.purge(box.item(ready.draft))
    [answer] = await large.graph.send(large.account(), [ready], large.token())
    assert isinstance(answer, NotSent)
    assert answer.code == "draft_gone"
    assert isinstance(await large.send(going), Receipt)
    assert len(large.got()) == 1


async def test_a_mail_that_was_not_prepared_does_not_go(large: Large, place: str) -> None:
    """Never without its file."""
    going = mail(place, await large.upload(place, 1000))
    [answer] = await large.graph.send(large.account(), [going], large.token())
    assert isinstance(answer, NotSent)
    assert large.got() == []


async def test_a_rehearsal_leaves_nothing_behind(large: Large) -> None:
    """It proves Mail.ReadWrite by a draft that is gone again, and names it where it is missing."""
    await large.graph.rehearse(large.account(), large.token())
    box = large.office.office.mailbox(ANNA)
    assert [len(folder.items) for folder in box.folders.values()] == [0] * len(box.folders)
    with pytest.raises(NotSent, match=r"Mail\.ReadWrite") as refused:
        await large.graph.rehearse(large.account(), large.token("Mail.Send", "Mail.Read"))
    assert refused.value.code == "access_denied"


FROM = {"sender": Address(SHARED, "Office")}


@pytest.mark.parametrize(
    "fields", [FROM, FROM | {"in_reply_to": "<a@mailroom.example>"}, {"mime": f"From: {SHARED}\r\nTo: {BEN}\r\n\r\nHi".encode()}]
)
@pytest.mark.parametrize("right", ["send_as", "on_behalf", None])
async def test_from_another_address(large: Large, place: str, fields: dict[str, Any], right: str | None) -> None:
    """In JSON, in MIME and ready-made: with the right it goes, as the other or on its behalf; without it the refusal says how to get it."""
    if right:
        getattr(large.directory, right).add((ANNA, SHARED))
    answer = await large.send(mail(place, **fields))
    if right is None:
        assert isinstance(answer, Refused), answer
        assert answer.code == "send_as_denied"
        assert "Add-RecipientPermission" in answer.next_step
        assert "GrantSendOnBehalfTo" in answer.next_step
        assert large.got() == []
        return
    assert isinstance(answer, Receipt), answer
    [item] = large.got()
    people = [item.props[name]["emailAddress"]["address"] for name in ("from", "sender")]
    assert people == [SHARED, SHARED if right == "send_as" else ANNA]


async def test_a_large_mail_from_another_address(large: Large, place: str) -> None:
    """The draft carries it, too."""
    large.directory.send_as.add((ANNA, SHARED))
    assert isinstance(await large.send(mail(place, await large.upload(place, 4_000_000), **FROM)), Receipt)
    assert large.got()[0].props["from"]["emailAddress"]["address"] == SHARED


async def test_a_shared_mailbox_is_an_account_like_any_other(large: Large, place: str) -> None:
    """Small and large mails leave from it, and their copies lie in its own Sent Items."""
    account = large.account(SHARED)
    for stamp, files in ((f"{place}1", ()), (f"{place}2", (await large.upload(place, 4_000_000),))):
        assert isinstance(await large.send(mail(stamp, *files), account), Receipt)
    assert len(large.office.office.mailbox(SHARED).folder("sentitems").items) == 2
    assert [item.props["from"]["emailAddress"]["address"] for item in large.got()] == [SHARED, SHARED]


async def test_what_is_refused_at_the_door(large: Large, place: str) -> None:
    """An account that does not declare Mail.ReadWrite takes small uploads, and says of a large one what to do."""
    account = large.account(permissions=frozenset({"Mail.Send", "Mail.Read"}))
    small = mail(place, await large.upload(place, 2_000_000))
    large.graph.admit(account, small.message)
    ready = await large.prepare(small, large.token("Mail.Send"), account)
    [receipt] = await large.graph.send(account, [ready], large.token("Mail.Send"))
    assert isinstance(receipt, Receipt)
    assert receipt.path == "sendMail"
    answer = await large.prepare(mail(f"{place}x", await large.upload(place, 4_000_000)), account=account)
    assert isinstance(answer, Refused)
    assert answer.code == "mail_needs_readwrite"
    assert "permissions" in answer.next_step


async def test_a_permission_taken_away_is_named(large: Large, place: str) -> None:
    """Each 403 says which permission it is about: for drafts, for sending, for asking."""
    going = mail(place, await large.upload(place, 4_000_000))
    ready = await large.prepare(going)
    [unsent] = await large.graph.send(large.account(), [ready], large.token("Mail.ReadWrite"))
    assert isinstance(unsent, NotSent)
    assert "Mail.Send" in unsent.next_step
    unmade = await large.prepare(msgspec.structs.replace(going, stamp=f"{place}2"), large.token("Mail.Send", "Mail.Read"))
    assert "Mail.ReadWrite" in unmade.next_step
    with pytest.raises(NotSent, match=r"Mail\.Read "):
        await large.graph.ask(large.account(), [going], large.token("Mail.Send"))


async def _send_small(large: Large, stamp: str, token: Token) -> object:
    return (await large.graph.send(large.account(), [mail(stamp)], token))[0]


async def _send_large(large: Large, stamp: str, token: Token) -> object:
    ready = await large.prepare(mail(stamp, await large.upload(stamp, 4_000_000)), token)
    return (await large.graph.send(large.account(), [ready], token))[0] if isinstance(ready, Outgoing) else ready


async def _send_and_ask(large: Large, stamp: str, token: Token) -> object:
    sent = await _send_small(large, stamp, token)
    return sent if isinstance(sent, ProviderError) else (await large.graph.ask(large.account(), [mail(stamp)], token))[0]


async def _receive(large: Large, stamp: str, token: Token) -> object:
    return await large.graph.page(large.account(), None, token)


async def _all(large: Large, stamp: str, token: Token) -> object:
    steps = [await step(large, f"{stamp}{n}", token) for n, step in enumerate((_send_large, _send_and_ask, _receive))]
    return next((step for step in steps if isinstance(step, ProviderError)), steps[-1])


WAYS = {
    "send a mail that fits one request": _send_small,
    "send a mail with uploaded attachments": _send_large,
    "send, and find out what was sent where an answer was lost": _send_and_ask,
    "receive": _receive,
    "all of it": _all,
}


@pytest.mark.parametrize("need", [need for need in permissions.needs() if need.provider == "graph"], ids=lambda need: need.what)
async def test_the_least_permissions_are_enough_and_none_can_be_left_out(large: Large, place: str, need: permissions.Need) -> None:
    """Each row of docs/permissions.md, tried: with just these it works, without any one of them it is refused."""

    async def tried(stamp: str, names: set[str]) -> object:
        try:
            return await WAYS[need.what](large, stamp, large.token(*names or {"none"}))
        except ProviderError as error:
            return error

    assert not isinstance(found := await tried(place, {*need.least}), ProviderError | None), found
    for number, name in enumerate(need.least):
        refused = await tried(f"{place}{number}", {*need.least} - {name})
        assert isinstance(refused, NotSent), name
        assert refused.code == "access_denied"
