"""`mailroom login` against the sandbox's Entra: a person with a browser answers, and the refresh token comes to lie in the vault."""

from __future__ import annotations

import asyncio
import html
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import pytest_asyncio

from cli.line import Line
from cli.login import Login, Way
from cli.loopback import Loopback
from mailroom.credentials._delegated import Client
from mailroom.credentials.refresh_token import RefreshToken
from mailroom.errors import StorageDown, VaultRefused
from mailroom.model.account import Account, Cloud, Profile
from mailroom.providers import graph
from mailroom.storage.refresh_tokens import TURN, RefreshTokens
from sandbox.directory import GRAPH, App
from sandbox.users import User
from tests.contract.sandbox_town import Office, office
from tests.fakes import FakeParts, FakeStore, FakeVault

pytestmark = pytest.mark.asyncio(loop_scope="module")

Person = Callable[[], Any]


@dataclass
class Place:
    """One account, and somebody who does what they are told to: `answers` are what they type, one for each page."""

    office: Office
    app: App
    user: User
    vault: FakeVault = field(default_factory=FakeVault)
    store: FakeStore = field(default_factory=FakeStore)
    shown: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    grant: Any = RefreshToken
    username: str = ""
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    while_waiting: Person = lambda: None
    typed: dict[str, str] = field(default_factory=dict)

    @property
    def account(self) -> Account:
        cloud = Cloud(self.office.directory.authority, "https://graph/v1.0", f"{GRAPH}/.default", "vault", "storage")
        options = (("refresh_token_secret", "dora-token"), *([("username", self.username)] if self.username else []))
        secret = "tool" if self.app.secrets else None
        profile = Profile("dora", "refresh_token", self.office.directory.tenant, self.app.client_id, cloud, secret=secret, options=options)
        return Account("dora", "graph", "Dora@mailroom.example", profile)

    def credential(self, profile: Profile) -> Any:
        if self.grant is not RefreshToken:
            return self.grant
        return RefreshToken(Client(profile, FakeParts(vault=self.vault), tls=self.office.ca.context))

    def scope(self, account: Account) -> str:
        return graph.delegated_scope(account)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        done = self.while_waiting()
        if done is not None:
            await done

    def browse(self, url: str) -> None:
        """What webbrowser.open would: from a thread, at once."""
        self.opened.append(url)
        asyncio.run_coroutine_threadsafe(self.visit(url), self.loop)

    async def login(self, way: Way | None = None, *, opens: bool = False, store: bool = True) -> list[Line]:
        self.loop = asyncio.get_running_loop()
        login = Login(self, self.vault, self.store if store else None, self.shown.append, self.browse if opens else None, self.sleep)
        return [line async for line in login.run(self.account, way)]

    async def visit(self, url: str) -> httpx.Response:
        """Signs in on the page, unless that knows them already, and hands its answer over."""
        page = await self.office.http.get(url)
        if 'name="username"' in page.text:
            typed = {"username": self.user.address, "password": self.user.password, "answer": "yes", **self.typed}
            page = await self.send(page.text, url, **typed)
        where, fields = read(page.text)
        async with httpx.AsyncClient() as browser:
            return await browser.post(where, data=fields)

    async def send(self, page: str, url: str, **typed: str) -> httpx.Response:
        action, fields = read(page)
        return await self.office.http.post(str(httpx.URL(url).join(action)), data=fields | typed)

    async def type_code(self, **typed: str) -> httpx.Response:
        """On the page that the message names."""
        url, code = re.search(r"open the page (\S+) and enter the code (\w+)", self.shown[0]).groups()  # type: ignore[union-attr]
        page = await self.office.http.get(url)
        fields = {"user_code": code, "username": self.user.address, "password": self.user.password, "answer": "yes"}
        return await self.send(page.text, url, **fields | typed)


def read(page: str) -> tuple[str, dict[str, str]]:
    action = html.unescape(re.search(r'action="([^"]*)"', page)[1])  # type: ignore[index]
    return action, {html.unescape(n): html.unescape(v) for n, v in re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', page)}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def entra(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Office]:
    async with office(tmp_path_factory.mktemp("office")) as served:
        served.directory.delegations.interval = 0
        yield served


@pytest_asyncio.fixture(loop_scope="module")
async def place(entra: Office, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Place]:
    """Afterwards no password, code or token stands in what was shown or logged, at any level."""
    entra.faults.clear()
    entra.directory.now = time.time
    for name in ("msal", "httpx", "httpcore", "asyncio", "mailroom"):
        caplog.set_level(logging.DEBUG, name)
    app = entra.directory.register(App("tool", public=True, redirect_uris={"http://localhost"}))
    made = Place(entra, app, entra.directory.add_user(User("dora@mailroom.example")))
    yield made
    entra.faults.clear()
    delegations = entra.directory.delegations
    secret = {made.user.password, *app.secrets, *delegations.refresh_tokens, *delegations.codes, *delegations.devices}
    written = [*made.shown, *(record.getMessage() for record in caplog.get_records("call"))]
    assert not [text for text in written for value in secret if value in text]


def ok(lines: list[Line]) -> list[tuple[bool | None, str]]:
    return [(line.ok, line.what) for line in lines]


async def test_by_device_code(place: Place) -> None:
    """The message, polls until somebody has answered, the consent; then the refresh token lies in the vault and gets access tokens."""
    polls = 0

    async def after_two() -> None:
        nonlocal polls
        polls += 1
        if polls == 3:
            await place.type_code()

    place.while_waiting = after_two
    lines = await place.login("device")
    assert ok(lines) == [(True, "sign-in"), (True, "vault")]
    assert (len(place.shown), polls) == (1, 3)
    token = await place.credential(place.account.profile).ask(place.scope(place.account))
    assert place.office.directory.check(token.value, [GRAPH])["scp"] == "Mail.Read Mail.Send"


async def test_by_browser(place: Place) -> None:
    """The page opens, the code comes by form post and is exchanged with its verifier; the page says that it is done."""
    lines = await place.login("browser", opens=True)
    assert ok(lines) == [(True, "sign-in"), (True, "vault")]
    assert place.opened[0] in place.shown[0]
    query = httpx.URL(place.opened[0]).params
    assert (query["code_challenge_method"], query["response_mode"]) == ("S256", "form_post")
    assert query["redirect_uri"].startswith("http://localhost:")
    assert (query["login_hint"], place.vault.secrets["dora-token"][:2]) == ("Dora@mailroom.example", "1.")


async def test_a_confidential_client_uses_a_browser(place: Place) -> None:
    """By itself; and by device code it says that it cannot, before anybody types a code."""
    place.vault.secrets["tool"] = place.app.add_secret(time.time() + 60)
    place.app.public = False
    assert ok(await place.login(opens=True)) == [(True, "sign-in"), (True, "vault")]
    [line] = await place.login("device")
    assert "login_needs_browser" in line.said
    assert await place.credential(place.account.profile).ask(place.scope(place.account))


async def test_nothing_is_opened_when_told_so(place: Place) -> None:
    """The address alone is printed, and whoever opens it is answered by the page."""

    async def person() -> httpx.Response:
        while not place.shown:  # noqa: ASYNC110  # a list does not call
            await asyncio.sleep(0.01)
        return await place.visit(re.search(r"https://\S+", place.shown[0])[0])  # type: ignore[index]

    lines, page = await asyncio.gather(place.login("browser"), person())
    assert ok(lines) == [(True, "sign-in"), (True, "vault")]
    assert "You can close this page" in page.text
    assert page.headers["Cache-Control"] == "no-store"


async def test_the_wrong_person_is_told_apart(place: Place) -> None:
    """Who signed in is said, nothing is stored, and what to write if it is meant."""
    place.user = place.office.directory.add_user(User("eva@mailroom.example"))
    lines = await place.login("browser", opens=True)
    assert ok(lines) == [(False, "sign-in")]
    assert "signed in as eva@mailroom.example, and not as Dora@mailroom.example" in lines[0].said
    assert 'username = "eva@mailroom.example"' in lines[0].todo
    assert not place.vault.secrets
    place.username = "Eva@mailroom.example"
    assert ok(await place.login("browser", opens=True)) == [(True, "sign-in"), (True, "vault")]


async def test_a_person_who_declines(place: Place) -> None:
    """On either page; the line says so, and what to do."""
    place.while_waiting = lambda: place.type_code(answer="no")
    [line] = await place.login("device")
    assert (line.ok, "authorization_declined" in line.said or "70017" in line.said, "accept" in line.todo) == (False, True, True)
    place.typed = {"answer": "no"}
    [line] = await place.login("browser", opens=True)
    assert (line.ok, "AADSTS65004" in line.said, "accept" in line.todo) == (False, True, True)
    assert not place.vault.secrets


async def test_a_code_that_nobody_enters(place: Place) -> None:
    """The authority says that it has expired, or we do when its time is over."""
    place.while_waiting = lambda: setattr(place.office.directory, "now", lambda: time.time() + 901)
    [line] = await place.login("device")
    assert (line.ok, "aadsts_70020" in line.said) == (False, True)
    place.while_waiting, place.office.directory.now = lambda: None, time.time
    place.office.faults.add({"service": "entra", "path": "/token", "answer": "503"})
    [line] = await place.login("device")
    assert (line.ok, "login_expired" in line.said) == (False, True)
    assert sum(place.slept) >= 900


async def test_an_authority_that_is_down_for_a_moment(place: Place) -> None:
    """A poll that fails is no answer: the next one comes later, and the code still counts (RFC 8628, 3.5)."""
    struck = place.office.faults.add({"service": "entra", "path": "/token", "answer": "503", "times": 2})
    place.while_waiting = lambda: place.type_code() if struck.hits == 1 else None
    assert ok(await place.login("device")) == [(True, "sign-in"), (True, "vault")]
    assert place.slept == [0.0, 5.0, 10.0]


async def test_who_polls_too_fast_slows_down(place: Place) -> None:
    """Five seconds more, as RFC 8628 has it."""
    place.office.directory.delegations.interval = 5
    count = 0

    async def answers() -> None:
        nonlocal count
        count += 1
        if count == 3:
            await place.type_code()

    place.while_waiting = answers
    try:
        assert ok(await place.login("device")) == [(True, "sign-in"), (True, "vault")]
    finally:
        place.office.directory.delegations.interval = 0
    assert place.slept == [5.0, 5.0, 10.0]


async def test_a_wrong_application(place: Place) -> None:
    """What is wrong with the request is told before anybody signs in, and by its number."""
    place.app.client_id = "99999999-0000-0000-0000-000000000000"
    [line] = await place.login("device")
    assert (line.ok, "aadsts_700016" in line.said) == (False, True)


@pytest.mark.parametrize("path", ["openid-configuration", "devicecode"])
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("429", "authority_throttled"),
        ("503", "authority_busy"),
        ("html", "authority_gateway"),
        ("garbage", "authority_unreadable"),
        ("cut", "authority_down"),
    ],
)
async def test_an_authority_that_gives_no_code(place: Place, path: str, answer: str, code: str) -> None:
    """Told at once, as what passes; nobody is shown half a message, and the next try works."""
    place.office.faults.add({"service": "entra", "path": path, "answer": answer, "times": 1})
    [line] = await place.login("device")
    assert (line.ok, code in line.said, place.shown) == (False, True, [])
    place.while_waiting = place.type_code
    assert ok(await place.login("device")) == [(True, "sign-in"), (True, "vault")]


async def test_a_code_that_is_stolen_on_the_way_back(place: Place) -> None:
    """What the browser brings is exchanged once; refused there, it is a refusal like any other, and nothing is stored."""
    place.office.faults.add({"service": "entra", "path": "/token", "answer": "400", "times": 1})
    [line] = await place.login("browser", opens=True)
    assert (line.ok, "aadsts_900144" in line.said, place.vault.secrets) == (False, True, {})


async def test_an_account_that_needs_no_login(place: Place) -> None:
    """Said in one line, with the command that tests it."""
    place.grant = object()
    [line] = await place.login()
    assert (line.ok, "nobody has to sign in" in line.said, "mailroom check dora" in line.todo) == (False, True, True)


async def test_a_vault_that_cannot_be_reached_says_so_first(place: Place) -> None:
    """Nobody signs in for nothing."""
    place.vault.fault = VaultRefused("vault_forbidden", "No.", "Give the role.")
    [line] = await place.login("device")
    assert (line.ok, line.said, line.todo) == (False, "No. (vault_forbidden)", "Give the role.")
    assert not place.shown


async def test_it_waits_for_a_timer_that_is_renewing(place: Place) -> None:
    """And writes after it, so that the new login is what stays."""
    tokens = RefreshTokens(place.store, place.vault)
    turn = await tokens.turn("dora-token")
    assert turn is not None
    place.while_waiting = lambda: tokens.put(turn, "what-the-timer-got") if "renewing" in place.shown[-1] else None
    assert ok(await place.login("browser", opens=True)) == [(True, "sign-in"), (True, "vault")]
    assert place.vault.secrets["dora-token"] != "what-the-timer-got"
    assert await tokens.turn("dora-token", due_only=True) is None


@pytest.mark.parametrize("store", [True, False])
async def test_without_storage_it_is_stored_all_the_same(place: Place, store: bool) -> None:
    """Whoever has signed in is not sent away because a table cannot be reached."""
    place.store.fail_next("get_row", StorageDown("storage_forbidden", "403."))
    assert ok(await place.login("browser", opens=True, store=store)) == [(True, "sign-in"), (True, "vault")]
    assert ("storage_forbidden" in "".join(place.shown)) is store
    assert place.vault.secrets["dora-token"]


async def test_a_turn_that_never_comes(place: Place) -> None:
    """After as long as any turn lasts it goes ahead."""
    await RefreshTokens(place.store, place.vault).turn("dora-token")
    assert ok(await place.login("browser", opens=True)) == [(True, "sign-in"), (True, "vault")]
    assert sum(place.slept) >= TURN


STRANGE: list[tuple[dict[str, str], int]] = [({"state": "another"}, 400), ({"state": ""}, 400), ({"code": "", "error": ""}, 400)]


@pytest.mark.parametrize(("changes", "status"), STRANGE)
async def test_the_page_takes_only_its_own_answer(changes: dict[str, str], status: int) -> None:
    """Another state, none, or an answer without content is turned away, and the right one still counts."""
    async with Loopback() as loopback, httpx.AsyncClient() as browser:
        waiting = asyncio.create_task(loopback.answer("ours"))
        await asyncio.sleep(0)
        refused = await browser.post(loopback.address, data={"state": "ours", "code": "c"} | changes)
        assert (refused.status_code, waiting.done()) == (status, False)
        assert (await browser.get(f"{loopback.address}/favicon.ico")).status_code == 405
        assert (await browser.post(loopback.address, data={"state": "ours", "code": "c"})).status_code == 200
        assert await waiting == {"state": "ours", "code": "c"}


async def test_the_page_shows_what_strangers_say_as_text() -> None:
    """An error's description comes from outside."""
    async with Loopback() as loopback, httpx.AsyncClient() as browser:
        waiting = asyncio.create_task(loopback.answer("ours"))
        await asyncio.sleep(0)
        page = await browser.post(loopback.address, data={"state": "ours", "error": "e", "error_description": "<script>"})
        await waiting
    assert "&lt;script&gt;" in page.text
    assert "<script" not in page.text


@pytest.mark.parametrize(
    "sent",
    [b"nonsense\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", b""],
)
async def test_the_page_survives_what_is_no_browser(sent: bytes) -> None:
    """Whatever comes, the answer after it counts; an idle connection holds nothing up at the end."""
    async with Loopback() as loopback, httpx.AsyncClient() as browser:
        waiting = asyncio.create_task(loopback.answer("ours"))
        reader, writer = await asyncio.open_connection("127.0.0.1", int(loopback.address.rpartition(":")[2]))
        writer.write(sent)
        await writer.drain()
        assert (await browser.post(loopback.address, data={"state": "ours", "code": "c"})).status_code == 200
        await waiting
    await reader.read()
    writer.close()
    await writer.wait_closed()
