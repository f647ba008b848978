"""The timer of the refreshing room: renew, warn, and what the health page says of it."""

from __future__ import annotations

import json
import logging
import tomllib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mailroom import __version__
from mailroom.errors import AuthorityRefused, BadSettings, MailroomError, StorageDown, VaultDown
from mailroom.model.account import Account, Cloud, Profile, Timing, Traits
from mailroom.ports import Store
from tests.fakes import FakeStore
from token_refresh.health import health
from token_refresh.pace import Pace
from token_refresh.renew import Renew, Warn
from token_refresh.reports import Reports

CLOUD = Cloud("https://login", "https://graph/v1.0", "scope", "vault", "storage")
START = 1_700_000_000.0
TIMING = Timing(renew_ahead=900.0, warn_ahead=30 * 86400.0)


def account(name: str, profile: str, provider: str = "graph") -> Account:
    signs_in = Profile(profile, "client_credentials", "tenant", "client", CLOUD, certificate=f"{profile}-certificate")
    return Account(name, provider, f"{name}@x.example", signs_in)


ACCOUNTS = [account("a", "good"), account("b", "good"), account("c", "bad"), account("d", "good", "smtp"), account("e", "better")]


@dataclass
class Clock:
    time: float = START

    def __call__(self) -> float:
        return self.time


@dataclass
class FakeKeyring:
    renewed: list[tuple[str, float]] = field(default_factory=list)
    errors: dict[str, MailroomError] = field(default_factory=dict)

    async def renew(self, account: Account, ahead: float) -> bool:
        self.renewed.append((f"{account.profile.name}/{account.provider}", ahead))
        for name in {account.profile.name, account.profile.subject} & self.errors.keys():
            raise self.errors[name]
        return True


@dataclass
class FakeVault:
    found: list[tuple[str, str, datetime]] = field(default_factory=list)
    error: MailroomError | None = None
    asked: int = 0

    async def secret(self, name: str, *, fresh: bool = False) -> str:
        raise AssertionError("no secret is read to warn of its end")

    async def set_secret(self, name: str, value: str, content_type: str = "text/plain") -> None:
        raise AssertionError("no secret is set to warn of its end")

    async def ends(self) -> list[tuple[str, str, datetime]]:
        self.asked += 1
        if self.error:
            raise self.error
        return self.found


RELAY = msgspec.structs.replace(account("bulk", "", "relay"), options=(("client_certificate", "shown"), ("host", "relay.example")))


class Room:
    def __init__(self) -> None:
        self.clock = Clock()
        self.store = FakeStore(now=self.clock)
        self.keyring = FakeKeyring()
        self.vault = FakeVault()
        self.renew = Renew(ACCOUNTS, self.keyring, Reports(self.store), TIMING)
        self.warn = Warn([one.profile for one in ACCOUNTS], [*ACCOUNTS, RELAY], self.vault, Pace(self.store), TIMING)

    def at(self, days: float) -> datetime:
        return datetime.fromtimestamp(self.clock() + days * 86400, UTC)


@pytest.fixture
def room() -> Room:
    return Room()


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, "mailroom")
    return lambda name: [event for record in caplog.records if (event := json.loads(record.getMessage()))["event"] == name]


async def test_each_profile_in_use_is_renewed_once(room: Room) -> None:
    """Accounts of one profile and provider share their token, so one of them is enough."""
    await room.renew.run()
    assert sorted(room.keyring.renewed) == [("bad/graph", 900.0), ("better/graph", 900.0), ("good/graph", 900.0), ("good/smtp", 900.0)]


async def test_each_mailbox_of_a_profile_that_signs_in_for_each(room: Room, events: Any) -> None:
    """Every mailbox's token is renewed; the profile has one report, bad when one of them fails, and the event names that mailbox."""
    found = [account(name, "google", "gmail") for name in "xyz"]
    each = [msgspec.structs.replace(one, profile=msgspec.structs.replace(one.profile, subject=one.address)) for one in found]
    renew = replace(room.renew, accounts=each)
    room.keyring.errors["y@x.example"] = AuthorityRefused("google_mailbox_unknown", "Invalid email or User ID")
    [report] = await renew.run()
    assert len(room.keyring.renewed) == 3
    assert (report.profile, report.code) == ("google", "google_mailbox_unknown")
    [event] = events("token.renewal_failed")
    assert event["mailbox"] == "y@x.example"


async def test_what_its_tokens_are_for_may_be_the_accounts_to_say(room: Room) -> None:
    """Two presets of one profile have two tokens, and a relay, which does not sign in, has none."""
    found = [account(name, "office", "smtp") for name in "xy"]
    hve = msgspec.structs.replace(found[1], options=(("preset", "hve"),))
    relay = msgspec.structs.replace(account("z", "", "relay"), traits=Traits(signs_in=False))
    reports = await replace(room.renew, accounts=[found[0], hve, relay]).run()
    assert len(room.keyring.renewed) == 2
    assert [(report.profile, report.provider) for report in reports] == [("office", "smtp")]


async def test_one_failing_profile_stops_no_other(room: Room, events: Any) -> None:
    """The others are renewed, and the report and an event say which one failed and why."""
    room.keyring.errors["bad"] = AuthorityRefused("aadsts_7000222", "The secret has expired.")
    reports = await room.renew.run()
    assert len(room.keyring.renewed) == 4
    assert [(report.profile, report.code) for report in reports if not report.ok] == [("bad", "aadsts_7000222")]
    [event] = events("token.renewal_failed")
    assert (event["profile"], event["code"]) == ("bad", "aadsts_7000222")


async def test_a_bug_is_no_report(room: Room) -> None:
    """What is no error of ours fails the run, so that somebody sees it."""
    room.keyring.errors["bad"] = RuntimeError("bug")  # type: ignore[assignment]
    with pytest.raises(RuntimeError, match="bug"):
        await room.renew.run()


async def test_without_storage_tokens_are_still_renewed(room: Room, events: Any) -> None:
    """A report that cannot be written costs an event, no more."""
    room.store.fail_next("write", times=4)
    assert all(report.ok for report in await room.renew.run())
    assert len(events("report.lost")) == 4


async def test_the_health_page_says_how_it_went(room: Room) -> None:
    """Each profile in use with its last result; a profile that cannot sign in degrades, and one that is gone is forgotten."""
    room.keyring.errors["bad"] = AuthorityRefused("aadsts_7000222", "The secret has expired.")
    await room.renew.run()
    status, body = await health("1.2.3", ACCOUNTS, lambda: room.store)
    assert (status, body["status"], body["version"], body["accounts"], body["storage"]) == (200, "degraded", "1.2.3", 5, "ok")
    assert {(one["profile"], one["provider"]): one["result"] for one in body["refresh"]} == {
        ("bad", "graph"): "aadsts_7000222",
        ("better", "graph"): "ok",
        ("good", "graph"): "ok",
        ("good", "smtp"): "ok",
    }
    assert {one["at"] for one in body["refresh"]} == {"2023-11-14T22:13:20Z"}
    assert "certificate" not in json.dumps(body)
    status, body = await health("1.2.3", ACCOUNTS[:2], lambda: room.store)
    assert (status, body["status"], len(body["refresh"])) == (200, "ok", 1)


def test_the_version_is_the_projects() -> None:
    """What is shipped to Azure is no installed package, so the version stands in the code, and is the one of pyproject.toml."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    assert __version__ == project["version"]


async def test_without_storage_it_is_down(room: Room) -> None:
    """503 with the reason's code, whether storage does not answer or was never configured."""
    room.store.fail_next("query", StorageDown("storage_forbidden", "403."))
    assert await health("1", [], lambda: room.store) == (
        503,
        {"status": "down", "version": "1", "accounts": 0, "storage": "storage_forbidden", "refresh": []},
    )

    def unset() -> Store:
        raise BadSettings(["AzureWebJobsStorage: not set"])

    assert (await health("1", [], unset))[1]["storage"] == "settings_invalid"


async def test_what_ends_soon_is_warned_of(room: Room, events: Any) -> None:
    """Of what the profiles sign in with and an account shows, and ended things too; of what others keep in the vault nothing."""
    room.vault.found = [
        ("certificate", "good-certificate", room.at(29.5)),
        ("certificate", "bad-certificate", room.at(-0.5)),
        ("certificate", "better-certificate", room.at(31)),
        ("secret", "good-certificate", room.at(1)),
        ("certificate", "somebody-elses", room.at(1)),
        ("certificate", "shown", room.at(2.5)),
    ]
    await room.warn.run()
    assert [(event["kind"], event["name"], event["days"]) for event in events("credential.expiring")] == [
        ("certificate", "good-certificate", 29),
        ("certificate", "bad-certificate", -1),
        ("certificate", "shown", 2),
    ]


async def test_once_a_day_is_enough(room: Room, events: Any) -> None:
    """Whichever instance the timer runs on, the vault is read and the warning given once a day."""
    room.vault.found = [("certificate", "good-certificate", room.at(10))]
    for _ in range(3):
        await room.warn.run()
        room.clock.time += 300
    assert room.vault.asked == 1
    room.clock.time += 86400
    await room.warn.run()
    assert len(events("credential.expiring")) == 2


async def test_a_vault_that_is_down_is_asked_again(room: Room, events: Any) -> None:
    """The event says so, and the next tick tries again."""
    room.vault.error = VaultDown("vault_down", "Down.")
    await room.warn.run()
    assert [event["code"] for event in events("vault.unreadable")] == ["vault_down"]
    room.vault.error = None
    await room.warn.run()
    assert room.vault.asked == 2
