"""The rows of docs/permissions.md about Gmail and SMTP, tried: with just these it works, without any one of them it is refused.

Those about Graph are tried in test_graph_large.py.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cli import permissions
from cli.permissions import Need
from mailroom.errors import NotSent, ProviderError, TokenRejected
from mailroom.model.account import Account, Cloud, Profile
from mailroom.model.message import Address, Attachment, Message, Outgoing, Receipt
from mailroom.model.token import Token
from mailroom.providers import gmail, smtp
from mailroom.providers.gmail import SCOPE, Gmail
from mailroom.providers.smtp import Smtp
from sandbox import smtp as sandbox_smtp
from sandbox.ca import Ca
from sandbox.directory import OUTLOOK, App, Directory
from sandbox.faults import Faults
from sandbox.graph import create
from sandbox.town import town
from tests.contract import sandbox_google
from tests.contract.sandbox_google import BEN, Office
from tests.fakes import FakeParts, FakeStore

ANNA = "anna@mailroom.example"
READ_FROM = 25 * 1024 * 1024  # a file that makes a mail of nearly 35 MB


def rows(provider: str) -> list[Need]:
    return [need for need in permissions.needs() if need.provider == provider]


def mail(stamp: str, *files: Attachment) -> Outgoing:
    return Outgoing(stamp, Message("billing", to=(Address(BEN),), subject="Hi", text="Hello", attachments=files))


async def _send(box: Gmail, account: Account, stamp: str, token: Token) -> object:
    return (await box.send(account, [mail(stamp, Attachment("large.bin", bytes(READ_FROM)))], token))[0]


async def _send_and_ask(box: Gmail, account: Account, stamp: str, token: Token) -> object:
    [sent] = await box.send(account, [mail(stamp)], token)
    return sent if isinstance(sent, ProviderError) else (await box.ask(account, [mail(stamp)], token))[0]


async def _receive(box: Gmail, account: Account, stamp: str, token: Token) -> object:
    return await box.page(account, None, token)


async def _all(box: Gmail, account: Account, stamp: str, token: Token) -> object:
    found = await _send_and_ask(box, account, stamp, token)
    return found if isinstance(found, ProviderError) else await _receive(box, account, stamp, token)


WAYS: dict[str, Callable[[Gmail, Account, str, Token], Awaitable[object]]] = {
    "send a mail": _send,
    "send, and find out what was sent where an answer was lost": _send_and_ask,
    "receive": _receive,
    "all of it": _all,
}


async def tried(office: Office, need: Need, stamp: str, names: set[str]) -> object:
    """Its answer with a token that has just these scopes, or what it raised."""
    account = office.account(permissions=frozenset(need.least))
    token = Token(office.workspace.issue(account.address, [f"{SCOPE}{name}" for name in names]), 2e9)
    try:
        return await WAYS[need.what](gmail.build(FakeParts(office.http)), account, stamp, token)
    except ProviderError as error:
        return error


@pytest.mark.parametrize("need", rows("gmail"), ids=lambda need: need.what)
async def test_gmail(tmp_path: Path, need: Need) -> None:
    """Of any size, as the table says; and each 403 names the scope that was left out."""
    async with sandbox_google.office(tmp_path) as office:
        assert not isinstance(found := await tried(office, need, "s", {*need.least}), ProviderError | None), found
        for number, name in enumerate(need.least):
            refused = await tried(office, need, f"s{number}", {*need.least} - {name})
            assert isinstance(refused, NotSent), name
            assert refused.code == "access_denied"
            assert name in refused.next_step


def application(directory: Directory, *names: str) -> str:
    app = directory.register(App("mailer", exchange={ANNA: {"FullAccess"}}))
    return directory.issue(app.client_id, OUTLOOK, [*names])


def person(directory: Directory, *names: str) -> str:
    outlook = directory.resource(OUTLOOK)
    assert outlook
    return directory.issue_delegated(directory.users[ANNA], directory.app("desktop").client_id, outlook, {*names, "offline_access"}, "0")


SIGN_INS = {"send as an application, to Exchange Online": application, "send as a person, to Exchange Online": person}


@pytest.mark.parametrize("need", [need for need in rows("smtp") if need.what in SIGN_INS], ids=lambda need: need.what)
async def test_smtp(tmp_path: Path, need: Need) -> None:
    """A token that has the permission signs in, and with every other permission of mail there is no getting in."""
    directory, ca, faults = town((ANNA,)), Ca.create(tmp_path), Faults()
    directory.authority = "https://login.example"
    exchange = await sandbox_smtp.serve(directory, faults, create(directory, faults).office, ca)
    cloud = Cloud("https://login.example", "graph", "scope", "vault", "storage", smtp=exchange.url.removeprefix("smtp://"))
    account = Account("billing", "smtp", ANNA, Profile("p", "client_credentials", "t", "c", cloud), traits=smtp.TRAITS)

    async def trust(_: Account) -> ssl.SSLContext:
        return ca.context()

    async def sent(*names: str) -> object:
        [answer] = await sender.send(account, [mail("s")], Token(SIGN_INS[need.what](directory, *names), 2e9))
        return answer

    sender = Smtp(lambda: 30.0, trust, FakeStore)
    try:
        others = {"Mail.Send", "Mail.ReadWrite", "IMAP.AccessAsUser.All", "SMTP.Send", "SMTP.SendAsApp"} - {*need.least}
        assert isinstance(await sent(*others), TokenRejected)
        assert isinstance(await sent(*need.least), Receipt)
    finally:
        sender.close()
        await exchange.stop()


def test_every_row_is_tried_or_told() -> None:
    """All but those about servers that the sandbox does not play: High Volume Email, Gmail's SMTP, and a relay that asks for nothing."""
    told = {"send by High Volume Email", "send by Gmail"}
    assert {need.what for need in rows("gmail")} == {*WAYS}
    assert {need.what for need in rows("smtp")} == {*SIGN_INS} | told
