"""Who writes a refresh token: the timer of one instance at a time, about once a week, and never over somebody's new login."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from mailroom.errors import AuthorityDown, AuthorityRefused, MailroomError, StorageDown, VaultRefused
from mailroom.model.account import Account, Cloud, Profile
from mailroom.model.token import Token
from mailroom.storage.refresh_tokens import RETRY, ROTATE, TURN, RefreshTokens
from tests.fakes import FakeStore, FakeVault
from token_refresh.delegated import Rotate

CLOUD = Cloud("https://login", "https://graph/v1.0", "scope", "vault", "storage")
START = 1_700_000_000.0


@dataclass
class Clock:
    time: float = START

    def __call__(self) -> float:
        return self.time


@dataclass
class Delegated:
    """A credential that lives on a refresh token: each new one says which it was got for. `meanwhile` comes before its answer."""

    vault: FakeVault
    secret_name: str
    error: MailroomError | None = None
    gives: str | None = None
    meanwhile: Callable[[], Any] | None = None
    asked: list[str] = field(default_factory=list)

    async def ask(self, scope: str) -> Token:
        raise AssertionError("no access token is wanted here")

    async def rotated(self, scope: str) -> str:
        self.asked.append(scope)
        old = await self.vault.secret(self.secret_name, fresh=True)
        if self.meanwhile is not None:
            await self.meanwhile()
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        return f"{old}+" if self.gives is None else self.gives


class Application:
    """A credential of an application, which has nothing to rotate."""

    async def ask(self, scope: str) -> Token:
        raise AssertionError("no access token is wanted here")


class House:
    def __init__(self) -> None:
        self.clock = Clock()
        self.store = FakeStore(now=self.clock)
        self.vault = FakeVault({"dora": "d", "eva": "e"})
        self.credentials: dict[str, Any] = {
            "dora": Delegated(self.vault, "dora"),
            "eva": Delegated(self.vault, "eva"),
            "office": Application(),
        }

    @property
    def tokens(self) -> RefreshTokens:
        return RefreshTokens(self.store, self.vault)

    def timer(self, *names: str, limit: float = 60.0) -> Rotate:
        accounts = [Account(name, "graph", f"{name}@x.example", Profile(name, "refresh_token", "t", "c", CLOUD)) for name in names]
        return Rotate(
            accounts, lambda profile: self.credentials[profile.name], lambda account: f"scope of {account.name}", self.tokens, limit
        )

    async def tick(self, *names: str) -> None:
        await self.timer(*(names or ("dora",))).run()


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, "mailroom")
    return lambda name: [event for record in caplog.records if (event := json.loads(record.getMessage()))["event"] == name]


async def test_once_a_week_is_enough(house: House, events: Any) -> None:
    """The first tick renews it, then none for a week: far from the 90 days after which it would have ended."""
    for _ in range(3):
        await house.tick()
        house.clock.time += 300
    assert house.vault.secrets["dora"] == "d+"
    house.clock.time += ROTATE
    await house.tick()
    assert house.vault.secrets["dora"] == "d++"
    assert [(event["profile"], event["secret"]) for event in events("refresh_token.rotated")] == [("dora", "dora")] * 2


async def test_with_the_accounts_scope(house: House) -> None:
    """The authority wants one; profiles without a refresh token are left alone."""
    await house.tick("office", "dora")
    assert house.credentials["dora"].asked == ["scope of dora"]


async def test_of_several_timers_one_renews(house: House) -> None:
    """Two that run at the same time, and two profiles of one secret: the token is asked for once and written once."""
    house.credentials["twin"] = Delegated(house.vault, "dora")
    for week in ("+", "++"):
        await asyncio.gather(*(house.tick("dora", "twin", "eva") for _ in range(4)))
        assert (house.vault.secrets["dora"], house.vault.secrets["eva"]) == (f"d{week}", f"e{week}")
        assert len(house.credentials["dora"].asked + house.credentials["twin"].asked) == len(week)
        house.clock.time += ROTATE


async def test_a_timer_that_died_is_followed(house: House) -> None:
    """Its turn runs out, and the next tick has its own."""
    await house.tokens.turn("dora")
    await house.tick()
    assert house.vault.secrets["dora"] == "d"
    house.clock.time += TURN
    await house.tick()
    assert house.vault.secrets["dora"] == "d+"


async def test_a_login_is_not_overwritten(house: House) -> None:
    """While the timer renews the old token nobody else has a turn, and after a login it renews nothing for a week."""
    turns: list[Any] = []

    async def somebody_logs_in() -> None:
        turns.append(await house.tokens.turn("dora"))

    house.credentials["dora"].meanwhile = somebody_logs_in
    await house.tick()
    assert turns == [None]
    turn = await house.tokens.turn("dora")
    assert turn is not None
    await house.tokens.put(turn, "new login")
    await house.tick()
    assert house.vault.secrets["dora"] == "new login"


async def test_a_turn_that_ran_out_is_not_ended_by_its_owner(house: House) -> None:
    """Who comes back late changes nothing of the turn that somebody else has by now."""
    late = await house.tokens.turn("dora")
    house.clock.time += TURN
    mine = await house.tokens.turn("dora")
    assert late is not None
    assert mine is not None
    await house.tokens.give_back(late, failed=False)
    assert await house.tokens.turn("dora") is None


FAILURES: dict[str, MailroomError] = {
    "refused": AuthorityRefused("aadsts_700082", "It has expired.", "Run `mailroom login ACCOUNT`."),
    "down": AuthorityDown("authority_busy", "503."),
    "vault": VaultRefused("vault_forbidden", "No."),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_one_that_fails_stops_no_other(house: House, events: Any, name: str) -> None:
    """An event says why and what to do; it is tried again an hour later, not at each tick."""
    error = house.credentials["dora"].error = FAILURES[name]
    for _ in range(3):
        await house.tick("dora", "eva")
        house.clock.time += 300
    assert (house.vault.secrets["dora"], house.vault.secrets["eva"]) == ("d", "e+")
    [event] = events("refresh_token.rotation_failed")
    assert (event["profile"], event["code"], event["next_step"]) == ("dora", error.code, error.next_step)
    house.credentials["dora"].error = None
    house.clock.time += RETRY
    await house.tick()
    assert house.vault.secrets["dora"] == "d+"


async def test_a_vault_that_takes_nothing(house: House, events: Any) -> None:
    """The old token stays and is good; the event is the vault's."""

    async def forbid() -> None:
        house.vault.fault = VaultRefused("vault_forbidden", "No.", "Give the role.")

    house.credentials["dora"].meanwhile = forbid
    await house.tick()
    assert [event["code"] for event in events("refresh_token.rotation_failed")] == ["vault_forbidden"]
    assert house.vault.secrets["dora"] == "d"


async def test_an_authority_that_gives_no_new_one(house: House) -> None:
    """Then there is nothing to write, for a week."""
    house.credentials["dora"].gives = ""
    await house.tick()
    await house.tick()
    assert (house.vault.secrets["dora"], len(house.credentials["dora"].asked)) == ("d", 1)


async def test_without_storage_nothing_is_renewed(house: House, events: Any) -> None:
    """There is no turn to be had; the next tick tries again. A turn that cannot be ended runs out by itself."""
    house.store.fail_next("get_row")
    await house.tick()
    assert [event["code"] for event in events("refresh_token.rotation_failed")] == ["storage_down"]
    assert house.vault.secrets["dora"] == "d"

    async def fail_then() -> None:
        house.store.fail_next("write", StorageDown("storage_down", "Down."))

    house.credentials["dora"].meanwhile = fail_then
    await house.tick()
    assert (house.vault.secrets["dora"], len(events("refresh_token.rotated"))) == ("d+", 1)
    await house.tick()
    assert house.vault.secrets["dora"] == "d+"


async def test_it_ends_within_its_turn(house: House, events: Any) -> None:
    """What hangs is given up before the turn is somebody else's."""
    house.credentials["dora"].meanwhile = asyncio.Event().wait
    await house.timer("dora", limit=0.01).run()
    assert [event["code"] for event in events("refresh_token.rotation_failed")] == ["authority_timeout"]
    assert house.timer("dora").limit < TURN


async def test_no_token_stands_in_events_or_rows(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """They are the vault's alone."""
    house.vault.secrets["dora"] = "canary-of-dora"
    caplog.set_level(logging.DEBUG)
    await house.tick()
    house.credentials["dora"].error = FAILURES["refused"]
    house.clock.time += ROTATE
    await house.tick()
    stored = json.dumps([msgspec.to_builtins(row) for rows in house.store.tables.values() for row in rows.values()])
    assert "canary-of-dora+" in house.vault.secrets.values()
    assert "canary" not in stored + caplog.text
