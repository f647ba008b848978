"""Accounts of people, from the first sign-in on: `mailroom login`, `mailroom check`, mails by Graph and SMTP, and the timer's renewal."""

from __future__ import annotations

import asyncio
import html
import json
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from mailroom.model.places import TOKENS_TABLE
from mailroom.settings.environment import read as read_environment
from mailroom.storage.rest import RestStore
from sandbox.accounts import Pace, accounts_toml
from sandbox.directory import GRAPH, OUTLOOK
from sandbox.functions import environment
from sandbox.users import Session, User
from tests.fakes import FakeParts
from tests.journey.own_town import EVERY_SECOND, QUICK, OwnTown, new_subject, own_town

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

ROOT = Path(__file__).resolve().parents[2]
DORA, EVA, PAUL = "dora@contoso.example", "eva@contoso.example", "paul@contoso.example"
PROFILES = {
    DORA: ("graph", {"grant": "refresh_token", "refresh_token_secret": "dora-token"}),
    EVA: ("graph", {"grant": "refresh_token", "refresh_token_secret": "eva-token"}),
    PAUL: ("smtp", {"grant": "password", "username": PAUL, "password_secret": "paul-password"}),
}


class People:
    """Three of them in a town of their own: dora has yet to sign in, eva did so long ago, paul has a password and SMTP."""

    def __init__(self, town: OwnTown) -> None:
        self.town = town
        self.directory = town.services.directory
        self.users = {address: self.directory.add_user(User(address)) for address in PROFILES}
        app = self.directory.app("desktop")
        app.delegated = {GRAPH: {"Mail.Send", "Mail.Read"}, OUTLOOK: {"SMTP.Send"}}
        self.vault = town.services.vault_contents
        self.vault.set_secret("paul-password", self.users[PAUL].password)
        self.eva = self.directory.delegations.begin(Session(self.users[EVA], app.client_id, False, self.directory.now()))
        self.vault.set_secret("eva-token", self.eva)
        common = {"tenant": self.directory.tenant, "client_id": app.client_id}
        self.accounts = "".join(self._account(address, provider, common | own) for address, (provider, own) in PROFILES.items())
        self.said: list[str] = []

    def _account(self, address: str, provider: str, profile: dict[str, str]) -> str:
        name = address.partition("@")[0]
        account = {"provider": provider, "address": address, "auth": name}
        tables = ((f"auth.{name}", profile), (f"accounts.{name}", account))
        return "".join(f"\n[{title}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in of.items()) for title, of in tables)

    async def mailroom(self, *arguments: str) -> Process:
        path = self.town.folder / "people.toml"
        path.write_text(accounts_toml(self.town.services, Pace()) + self.accounts, "utf-8")
        env = environment(self.town.services, path) | {"PYTHONUTF8": "1"}
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli.main", *arguments, cwd=ROOT, env=env, stdout=PIPE, stderr=PIPE
        )

    async def ended(self, process: Process) -> tuple[int, str]:
        async with asyncio.timeout(60):
            out, errors = await process.communicate()
        self.said += [out.decode(), errors.decode()]
        return process.returncode or 0, out.decode() + errors.decode()

    async def enter_code(self, message: str, user: User) -> httpx.Response:
        url, code = re.search(r"open the page (\S+) and enter the code (\w+)", message).groups()  # type: ignore[union-attr]
        page = (await self.town.http.get(url)).text
        action = html.unescape(re.search(r'action="([^"]*)"', page)[1])  # type: ignore[index]
        typed = {"user_code": code, "username": user.address, "password": user.password, "answer": "yes"}
        return await self.town.http.post(str(httpx.URL(url).join(action)), data=typed)

    @property
    def secrets(self) -> set[str]:
        kept = {version.value for name in ("dora-token", "eva-token", "paul-password") for version in self.vault.secrets.versions(name)}
        return kept | {user.password for user in self.users.values()} | {*self.directory.delegations.refresh_tokens}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[People]:
    async with own_town(tmp_path_factory.mktemp("people")) as town:
        yield People(town)


async def test_a_person_signs_in_and_the_app_goes_on(people: People) -> None:
    """From an empty vault: a code on a page, a check that proves each permission, and mails sent as these people, while the timer renews.

    No password and no refresh token stands in what was printed, logged or stored.
    """
    process = await people.mailroom("login", "dora", "--device-code")
    assert process.stdout is not None
    message = (await process.stdout.readline()).decode()
    await people.enter_code(message, people.users[DORA])
    status, said = await people.ended(process)
    assert (status, "signed in as dora@contoso.example" in said, "✓ vault" in said) == (0, True, True), said
    assert people.vault.secrets.versions("dora-token")[-1].value in people.directory.delegations.refresh_tokens

    status, said = await people.ended(await people.mailroom("check", "dora", "--send-to", people.town.support))
    assert (status, "sent mail can be searched" in said, "test mail   taken" in said) == (0, True, True), said

    async with people.town.functions(Pace(sweep=QUICK.sweep, sync=QUICK.sync, refresh=EVERY_SECOND), more=people.accounts) as functions:
        for account in ("dora", "eva", "paul"):
            subject = new_subject()
            answer = await functions.send(account=account, to=[people.town.support], subject=subject, text="Hello")
            assert (answer.status_code, answer.json()["status"]) == (202, "sent"), answer.text
            assert subject in await subjects(people.town)
        async with asyncio.timeout(30):
            while len(people.vault.secrets.versions("eva-token")) < 2:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)
    renewed = people.vault.secrets.versions("eva-token")
    assert renewed[-1].value in people.directory.delegations.refresh_tokens
    assert len(people.vault.secrets.versions("dora-token")) == 1, "somebody signed in just now: a week is time enough"

    log = (people.town.folder / "functions.log").read_text("utf-8", "replace")
    assert "refresh_token.rotated" in log
    rows = await token_rows(people.town)
    assert "held_until" in rows
    assert not [text for text in (log, rows, *people.said) for secret in people.secrets if secret in text]


async def token_rows(town: OwnTown) -> str:
    """The whole table MailTokens."""
    where = read_environment({"AzureWebJobsStorage": town.services.storage}, []).storage
    assert where is not None
    store = RestStore(where, town.http, FakeParts().identity(), resource="")
    return repr([await store.query(TOKENS_TABLE, partition) for partition in ("sealed", "bar", "refresh", "turn")])


async def subjects(town: OwnTown) -> set[str]:
    """Of the mails in support's inbox."""
    found = await town.graph("GET", f"/users/{town.support}/mailFolders/inbox/messages?$select=subject&$top=100")
    return {mail["subject"] for mail in found["value"]}


async def test_the_wrong_person_changes_nothing(people: People) -> None:
    """Who signs in is compared with the account's address; the command fails, and says who it was."""
    before = len(people.vault.secrets.versions("eva-token"))
    process = await people.mailroom("login", "eva", "--device-code")
    assert process.stdout is not None
    await people.enter_code((await process.stdout.readline()).decode(), people.users[PAUL])
    status, said = await people.ended(process)
    assert (status, "signed in as paul@contoso.example, and not as eva@contoso.example" in said) == (1, True), said
    assert len(people.vault.secrets.versions("eva-token")) == before


async def test_an_account_of_an_application_needs_no_login(people: People) -> None:
    """One line, and status 1."""
    status, said = await people.ended(await people.mailroom("login", people.town.billing))
    assert (status, said.count("✗"), "nobody has to sign in for it" in said) == (1, 1, True), said
