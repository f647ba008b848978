"""The timer that registers new keys: each version once, with patience for the directory, and no profile in another one's way."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import Any

import pytest

from mailroom.errors import AuthorityDown, AuthorityRefused, MailroomError, StorageDown, VaultRefused
from tests.fakes import FakeStore
from token_refresh.register import AGAIN, Register

START = 1_700_000_000.0


@dataclass
class FakeRegistrar:
    """An application that knows some versions; what is registered is known only once `settle` was called, as in a real directory."""

    version: str = "v1"
    known: set[str] = field(default_factory=lambda: {"v1"})
    error: MailroomError | None = None
    asked: list[str] = field(default_factory=list)
    registered: list[str] = field(default_factory=list)

    async def newest(self) -> str:
        return self.version

    async def accepted(self, version: str) -> bool:
        self.asked.append(version)
        return version in self.known

    async def register(self, version: str) -> None:
        if self.error:
            raise self.error
        self.registered.append(version)

    def settle(self) -> None:
        self.known.update(self.registered)


class Room:
    def __init__(self) -> None:
        self.time = START
        self.store = FakeStore(now=lambda: self.time)
        self.office, self.shop = FakeRegistrar(), FakeRegistrar()
        self.register = Register({"office": self.office, "shop": self.shop}, self.store)

    async def tick(self, later: float = 300.0) -> None:
        self.time += later
        await self.register.run()


@pytest.fixture
def room() -> Room:
    return Room()


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, "mailroom")
    return lambda name: [event for record in caplog.records if (event := json.loads(record.getMessage()))["event"] == name]


async def test_what_the_authority_knows_is_left_alone(room: Room, events: Any) -> None:
    """It is asked once, and then no more until there is another version."""
    for _ in range(3):
        await room.tick()
    assert (room.office.asked, room.office.registered) == (["v1"], [])
    assert [event["profile"] for event in events("credential.accepted")] == ["office", "shop"]


async def test_a_new_version_is_registered_once(room: Room, events: Any) -> None:
    """It takes a while until the authority knows it; in that time it is asked, not told again. Events say what happened, in order."""
    await room.tick()
    room.office.version = "v2"
    for _ in range(3):
        await room.tick()
    assert room.office.registered == ["v2"]
    assert room.office.asked == ["v1", "v2", "v2", "v2"]
    room.office.settle()
    for _ in range(2):
        await room.tick()
    assert room.office.asked == ["v1", "v2", "v2", "v2", "v2"]
    assert [(event["profile"], event["version"]) for event in events("credential.registered")] == [("office", "v2")]
    assert [event["version"] for event in events("credential.accepted") if event["profile"] == "office"] == ["v1", "v2"]
    assert room.shop.asked == ["v1"]


async def test_what_got_lost_is_registered_again(room: Room) -> None:
    """An hour later, for by then every part of a directory knows what it was told."""
    room.office.version = "v2"
    await room.tick()
    await room.tick(AGAIN - 1)
    assert room.office.registered == ["v2"]
    await room.tick(1)
    assert room.office.registered == ["v2", "v2"]


async def test_a_refusal_stands_for_an_hour(room: Room, events: Any) -> None:
    """It is told once, with its next step; the other profile goes its way."""
    room.office.version = room.shop.version = "v2"
    room.office.error = AuthorityRefused("registration_refused", "401.", "Check `register_as`.")
    for _ in range(3):
        await room.tick()
    [event] = events("credential.registration_failed")
    assert (event["profile"], event["code"], event["next_step"]) == ("office", "registration_refused", "Check `register_as`.")
    assert room.shop.registered == ["v2"]
    room.office.error = None
    await room.tick(AGAIN)
    assert room.office.registered == ["v2"]


async def test_what_passes_by_itself_is_tried_at_the_next_tick(room: Room, events: Any) -> None:
    """A Graph that is busy has refused nothing."""
    room.office.version, room.office.error = "v2", AuthorityDown("graph_busy", "503.")
    await room.tick()
    room.office.error = None
    await room.tick()
    assert room.office.registered == ["v2"]
    assert [event["code"] for event in events("credential.registration_failed")] == ["graph_busy"]


@pytest.mark.parametrize("operation", ["get_row", "write"])
async def test_without_storage_nothing_is_lost(room: Room, events: Any, operation: str) -> None:
    """A tick that could not note what it did says so, and the next one does it; the other profile is not held up."""
    room.store.fail_next(operation, StorageDown("storage_down", "Down."))
    await room.tick()
    assert [event["code"] for event in events("credential.registration_failed")] == ["storage_down"]
    await room.tick()
    assert {event["profile"] for event in events("credential.accepted")} == {"office", "shop"}


async def test_a_vault_that_refuses_stops_no_other(room: Room, events: Any) -> None:
    """Its code and what to do stand in the event."""

    async def newest() -> str:
        raise VaultRefused("certificate_expired", "Expired.", "Make a new version.")

    room.office.newest = newest  # type: ignore[method-assign]
    await room.tick()
    assert [event["code"] for event in events("credential.registration_failed")] == ["certificate_expired"]
    assert room.shop.asked == ["v1"]
