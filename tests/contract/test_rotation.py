"""Certificates over their lives, on the wire to the sandbox's vault, Entra and Graph: versions overlap, and none is missed between two."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from mailroom.credentials._registration import AUDIENCES, Registration
from mailroom.credentials._sources import versions_of
from mailroom.credentials._versions import KEEP_SECONDS
from mailroom.credentials.client_credentials import ClientCredentials
from mailroom.errors import AuthorityDown, AuthorityRefused, VaultDown, VaultRefused
from tests.contract.sandbox_azure import KINDS, NAME, SCOPE, Azure, azure
from tests.fakes import FakeStore
from token_refresh.register import Register

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.parametrize("kind", KINDS)]

ADD_KEY = "addKey"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sky(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Azure]:
    async with azure(tmp_path_factory.mktemp("azure")) as running:
        yield running


@pytest.fixture
def place(sky: Azure, monkeypatch: pytest.MonkeyPatch) -> Azure:
    """azure-identity and requests read the environment itself."""
    for name, value in {**sky.env, "REQUESTS_CA_BUNDLE": str(sky.office.ca.bundle)}.items():
        monkeypatch.setenv(name, value)
    return sky.fresh()


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, "mailroom")

    def found(name: str) -> list[dict[str, Any]]:
        told = [json.loads(record.getMessage()) for record in caplog.records if record.name == "mailroom"]
        return [event for event in told if event["event"] == name]

    return found


async def test_a_new_version_is_picked_up_in_minutes(place: Azure, kind: str) -> None:
    """No restart: it is looked for every ten minutes, and then it signs; the old one may go from the application."""
    place.new_version()
    credential = place.credential(place.profile(kind))
    await credential.ask(SCOPE)
    place.new_version()
    place.later(KEEP_SECONDS)
    await credential.ask(SCOPE)
    del place.app.certificates[0]
    asked = place.faults.add({"service": "entra", "path": "token", "delay": 0})
    assert await credential.ask(SCOPE)
    assert asked.hits == 1  # by the new one at once, not after a refusal of the old one


async def test_the_previous_version_steps_in(place: Azure, kind: str, events: Any) -> None:
    """The newest is not registered yet: the one before signs in, an event says so, and for ten minutes nobody asks by the newest again."""
    old = place.new_version()
    credential = place.credential(place.profile(kind))
    new = place.new_version(registered=False)
    asked = place.faults.add({"service": "entra", "path": "token", "delay": 0})
    assert await credential.ask(SCOPE)
    assert asked.hits == 2
    [event] = events("credential.previous_used")
    assert event == {
        "event": "credential.previous_used",
        "profile": "office",
        "certificate": NAME,
        "version": old,
        "newest": new,
    }
    assert await credential.ask(SCOPE)
    assert (asked.hits, len(events("credential.previous_used"))) == (3, 1)
    place.register(new)
    place.later(KEEP_SECONDS)
    assert await credential.ask(SCOPE)
    assert (asked.hits, len(events("credential.previous_used"))) == (4, 1)


async def test_while_it_is_not_registered_the_event_comes_again(place: Azure, kind: str, events: Any) -> None:
    """At each look for a new version, so that nobody forgets to register it."""
    place.new_version()
    place.new_version(registered=False)
    credential = place.credential(place.profile(kind))
    for _ in range(3):
        await credential.ask(SCOPE)
        place.later(KEEP_SECONDS)
    assert len(events("credential.previous_used")) == 3


@pytest.mark.parametrize("fault", ["disabled", "not yet valid"])
async def test_a_version_that_cannot_sign_yet(place: Azure, kind: str, fault: str, events: Any) -> None:
    """Somebody disabled the newest, or it begins tomorrow: the one before signs in."""
    old = place.new_version()
    place.new_version(enabled=fault != "disabled", starts=timedelta(days=1 if fault == "not yet valid" else -1))
    assert await place.credential(place.profile(kind)).ask(SCOPE)
    [event] = events("credential.previous_used")
    assert event["version"] == old


async def test_only_good_versions_step_in(place: Azure, kind: str) -> None:
    """A disabled one does not; then the refusal of the newest stands, with its advice."""
    old = place.new_version()
    place.new_version(registered=False)
    place.contents.certificates.find(NAME, old).enabled = False
    with pytest.raises(AuthorityRefused, match="Register the newest version") as refused:
        await place.credential(place.profile(kind)).ask(SCOPE)
    assert refused.value.code == "aadsts_700027"


async def test_nothing_at_all_that_can_sign(place: Azure, kind: str) -> None:
    """The vault's own word on the newest is what is told."""
    place.new_version(enabled=False)
    with pytest.raises(VaultRefused, match="disabled") as refused:
        await place.credential(place.profile(kind)).ask(SCOPE)
    assert refused.value.code == "vault_certificate_disabled"


async def test_who_may_not_list_versions_hears_of_the_newest(place: Azure, kind: str, events: Any) -> None:
    """The authority's refusal is the news; that the older ones could not be looked for is an event."""
    place.new_version(registered=False)
    place.faults.add({"service": "vault", "path": "/versions", "answer": "403"})
    with pytest.raises(AuthorityRefused) as refused:
        await place.credential(place.profile(kind)).ask(SCOPE)
    assert refused.value.code == "aadsts_700027"
    assert [event["code"] for event in events("vault.unreadable")] == ["vault_forbidden"]


def registration(place: Azure, kind: str, object_id: str = "") -> Registration:
    options = (*KINDS[kind], ("register_as", object_id or place.app.application_id))
    profile, parts = place.profile(kind, options=options), place.parts()
    versions = versions_of(profile, parts, lambda: place.time)
    return Registration(
        profile,
        versions,
        parts,
        lambda source: ClientCredentials(profile, source, now=lambda: place.time, tls=place.office.ca.context),
        lambda: place.time,
    )


@pytest.mark.parametrize("audience", AUDIENCES)
async def test_the_timer_registers_a_new_version(
    place: Azure, kind: str, audience: str, events: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With addKey and its proof, for whichever audience Graph wants: the old version signs in until the new one is known."""
    monkeypatch.setattr(place.directory, "proof_audience", audience)
    old = place.new_version()
    timer = Register({"office": registration(place, kind)}, FakeStore(now=lambda: place.time))
    await timer.run()
    assert [event["version"] for event in events("credential.accepted")] == [old]
    new = place.new_version(registered=False)
    for _ in range(2):
        await timer.run()
    assert place.registered() == [old, new]
    assert [event["version"] for event in events("credential.registered")] == [new]
    assert [event["version"] for event in events("credential.accepted")] == [old, new]
    del place.app.certificates[0]
    assert await place.credential(place.profile(kind)).ask(SCOPE)


async def test_a_clock_that_is_off_registers_too(place: Azure, kind: str) -> None:
    """Five minutes either way, as signing in."""
    for off in (-300, 300):
        place.time += off
        new = place.new_version(registered=not place.app.certificates)
        asked = registration(place, kind)
        if not await asked.accepted(new):
            await asked.register(new)
        assert place.registered()[-1] == new
        place.time -= off


async def test_registrations_that_fail(place: Azure, kind: str) -> None:
    """Refused, busy and gone are told apart, and each says what to do; nothing was added."""
    place.new_version()
    new = place.new_version(registered=False)
    with pytest.raises(AuthorityRefused, match="register_as") as refused:
        await registration(place, kind, "66666666-7777-8888-9999-000000000000").register(new)
    assert (refused.value.code, "403 Authorization_RequestDenied" in refused.value.detail) == ("registration_refused", True)
    place.faults.add({"service": "graph", "path": ADD_KEY, "answer": "429", "retry_after": 9, "times": 1})
    with pytest.raises(AuthorityDown) as busy:
        await registration(place, kind).register(new)
    assert (busy.value.code, busy.value.retry_after) == ("graph_busy", 9.0)
    place.faults.add({"service": "graph", "path": ADD_KEY, "answer": "cut", "times": 1})
    with pytest.raises(AuthorityDown) as gone:
        await registration(place, kind).register(new)
    assert gone.value.code == "graph_down"
    place.faults.add({"service": "graph", "path": ADD_KEY, "answer": "400", "times": 1})
    with pytest.raises(AuthorityRefused) as unwanted:
        await registration(place, kind).register(new)
    assert unwanted.value.code == "registration_refused"
    assert len(place.app.certificates) == 1


async def test_without_a_registered_key_there_is_no_proof(place: Azure, kind: str) -> None:
    """The first certificate is a person's to upload."""
    new = place.new_version(registered=False)
    asked = registration(place, kind)
    assert not await asked.accepted(new)
    with pytest.raises(AuthorityRefused) as refused:
        await asked.register(new)
    assert refused.value.code == "aadsts_700027"


async def test_other_refusals_are_no_news_of_the_key(place: Azure, kind: str) -> None:
    """Whether a disabled application knows a key is not told, so it is not taken for one that does not."""
    new = place.new_version()
    place.app.disabled = True
    with pytest.raises(AuthorityRefused) as refused:
        await registration(place, kind).accepted(new)
    assert refused.value.code == "aadsts_7000112"


async def test_a_vault_that_is_busy(place: Azure, kind: str) -> None:
    """It comes through with its time to wait, and the authority is not asked."""
    place.new_version()
    place.faults.add({"service": "vault", "answer": "429", "retry_after": 7})
    asked = place.faults.add({"service": "entra", "path": "/oauth2/v2.0/token", "delay": 0})
    with pytest.raises(VaultDown) as down:
        await place.credential(place.profile(kind)).ask(SCOPE)
    assert (down.value.retry_after, asked.hits) == (7.0, 0)
