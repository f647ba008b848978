"""The keyring: where tokens come from, who is asked how often, and what is handed out no more."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from mailroom.errors import AuthorityDown, AuthorityRefused, MailroomError, StorageDown, VaultDown
from mailroom.keyring import Keyring
from mailroom.model.account import Account, Cloud, Profile
from mailroom.model.token import Token

CLOUD = Cloud("https://login", "https://graph/v1.0", "graph/.default", "vault", "storage")
PROFILE = Profile("office", "client_credentials", "tenant", "client", CLOUD, certificate="c")
ACCOUNT = Account("billing", "graph", "b@x.example", PROFILE)
OTHER = Account("support", "graph", "s@x.example", PROFILE)
START = 1_700_000_000.0


@dataclass
class Clock:
    time: float = START

    def __call__(self) -> float:
        return self.time


@dataclass
class Authority:
    """Gives tokens that say their number, as long as no error is set."""

    clock: Clock
    lifetime: float = 3600.0
    asked: int = 0
    error: MailroomError | None = None
    gate: asyncio.Event | None = None

    async def ask(self, scope: str) -> Token:
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return Token(f"token {self.asked} for {scope}", self.clock() + self.lifetime, self.lifetime)


@dataclass
class Cache:
    """The sealed cache, shared by all instances."""

    tokens: dict[str, Token] = field(default_factory=dict)
    bars: set[str] = field(default_factory=set)
    error: MailroomError | None = None

    async def get(self, key: str) -> Token | None:
        self._fail()
        return self.tokens.get(key)

    async def put(self, key: str, token: Token) -> None:
        self._fail()
        self.tokens[key] = token

    async def bar(self, token: Token) -> None:
        self._fail()
        self.bars.add(token.fingerprint)

    async def barred(self, token: Token) -> bool:
        self._fail()
        return token.fingerprint in self.bars

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


class House:
    """One clock, one authority, one cache; `keyring` makes another instance of the app."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.authority = Authority(self.clock)
        self.cache = Cache()

    def keyring(self) -> Keyring:
        return Keyring(
            self.cache, lambda profile: self.authority, scope_of=lambda account: account.profile.cloud.graph_scope, now=self.clock
        )


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, "mailroom")
    return lambda: [json.loads(record.getMessage()) for record in caplog.records if record.name == "mailroom"]


def names(found: list[dict[str, Any]]) -> list[str]:
    return [event["event"] for event in found]


async def test_accounts_of_one_profile_share_a_token(house: House, events: Any) -> None:
    """The authority is asked once; then memory answers, for every account of the profile."""
    keyring = house.keyring()
    token = await keyring.token(ACCOUNT)
    assert await keyring.token(OTHER) == token == await keyring.token(ACCOUNT)
    assert house.authority.asked == 1
    assert names(events()) == ["token.fetched"]
    assert token.value not in str(events())


async def test_a_profile_that_signs_in_for_each_mailbox(house: House) -> None:
    """Each mailbox has a token of its own, in memory and in the sealed cache, and a bar on one leaves the other alone."""
    mailboxes = [
        msgspec.structs.replace(account, profile=msgspec.structs.replace(PROFILE, subject=account.address)) for account in (ACCOUNT, OTHER)
    ]
    keyring = house.keyring()
    first, second = [await keyring.token(account) for account in mailboxes]
    assert first != second
    await keyring.bar(mailboxes[0], first)
    assert [await house.keyring().token(account) == second for account in mailboxes] == [False, True]
    assert house.authority.asked == 3


async def test_a_restart_finds_the_sealed_token(house: House, events: Any) -> None:
    """Another process takes what the first one got, and says so once."""
    token = await house.keyring().token(ACCOUNT)
    second = house.keyring()
    assert [await second.token(ACCOUNT) for _ in range(3)] == [token] * 3
    assert house.authority.asked == 1
    assert names(events()) == ["token.fetched", "token.reused"]


async def test_all_who_wait_wait_for_one(house: House) -> None:
    """A hundred tasks that need the token at once make one question."""
    keyring = house.keyring()
    tokens = await asyncio.gather(*(keyring.token(ACCOUNT) for _ in range(100)))
    assert len(set(tokens)) == 1
    assert house.authority.asked == 1


async def test_who_is_cancelled_takes_nobody_along(house: House) -> None:
    """The first waiter goes away; the question goes on for the others."""
    house.authority.gate = asyncio.Event()
    keyring = house.keyring()
    first = asyncio.create_task(keyring.token(ACCOUNT))
    await asyncio.sleep(0)
    second = asyncio.create_task(keyring.token(ACCOUNT))
    await asyncio.sleep(0)
    first.cancel()
    house.authority.gate.set()
    assert (await second).value.startswith("token 1")
    assert first.cancelled()
    assert house.authority.asked == 1


async def test_near_its_end_a_token_is_refreshed(house: House, events: Any) -> None:
    """With less than five minutes left it counts as ended, before that not."""
    keyring = house.keyring()
    await keyring.token(ACCOUNT)
    house.clock.time += 3600 - 301
    await keyring.token(ACCOUNT)
    assert house.authority.asked == 1
    house.clock.time += 1
    assert (await keyring.token(ACCOUNT)).value.startswith("token 2")
    assert names(events()) == ["token.fetched", "token.refreshed"]


async def test_a_short_lived_token_is_used_for_most_of_its_life(house: House) -> None:
    """Of a token of one minute the last ten seconds are kept free, also after a restart."""
    house.authority.lifetime = 60.0
    await house.keyring().token(ACCOUNT)
    house.clock.time += 49
    keyring = house.keyring()
    await keyring.token(ACCOUNT)
    assert house.authority.asked == 1
    house.clock.time += 1
    await keyring.token(ACCOUNT)
    assert house.authority.asked == 2


async def test_a_barred_token_is_handed_out_nowhere(house: House, events: Any) -> None:
    """After a 401 this instance, another one and one that starts later all get the new token, for one question."""
    here, there = house.keyring(), house.keyring()
    token = await here.token(ACCOUNT)
    assert await there.token(ACCOUNT) == token
    await here.bar(ACCOUNT, token)
    new = await here.token(ACCOUNT)
    assert new != token
    assert await there.token(ACCOUNT) == new == await house.keyring().token(ACCOUNT)
    assert house.authority.asked == 2
    rejected = [event for event in events() if event["event"] == "token.rejected"]
    assert [(event["by"], event["token"]) for event in rejected] == [("provider", token.fingerprint)]


async def test_two_refusals_of_one_token_bar_the_new_one_not(house: House) -> None:
    """Two sends met the same 401: the second one's bar does not touch the token that the first one got."""
    keyring = house.keyring()
    token = await keyring.token(ACCOUNT)
    await keyring.bar(ACCOUNT, token)
    new = await keyring.token(ACCOUNT)
    await keyring.bar(ACCOUNT, token)
    assert await keyring.token(ACCOUNT) == new
    assert house.authority.asked == 2


async def test_a_bar_holds_here_without_storage(house: House) -> None:
    """Where the bar cannot be written, this instance still keeps it, though the sealed token comes back."""
    keyring = house.keyring()
    token = await keyring.token(ACCOUNT)
    house.cache.error = StorageDown("storage_down", "Down.")
    await keyring.bar(ACCOUNT, token)
    house.cache.error = None
    assert await keyring.token(ACCOUNT) != token


@pytest.mark.parametrize("error", [StorageDown("storage_down", "Down."), VaultDown("vault_down", "Down.")])
async def test_without_the_cache_the_authority_is_enough(house: House, events: Any, error: MailroomError) -> None:
    """A sealed cache that is down stops no sending: it costs an event, and memory still answers."""
    house.cache.error = error
    keyring = house.keyring()
    token = await keyring.token(ACCOUNT)
    assert await keyring.token(ACCOUNT) == token
    assert house.authority.asked == 1
    assert {event["code"] for event in events() if event["event"] == "token_cache.failed"} == {error.code}


async def test_a_refusal_is_remembered_for_a_while(house: House, events: Any) -> None:
    """invalid_client is not hammered: for a minute the same answer comes from memory, then the authority is asked again."""
    house.authority.error = AuthorityRefused("aadsts_7000215", "Wrong secret.", "Set it.", error="invalid_client", trace_id="t1")
    keyring = house.keyring()
    for _ in range(5):
        with pytest.raises(AuthorityRefused) as raised:
            await keyring.token(ACCOUNT)
        assert (raised.value.code, raised.value.error, raised.value.next_step) == ("aadsts_7000215", "invalid_client", "Set it.")
    assert house.authority.asked == 1
    [event] = events()
    assert (event["event"], event["by"], event["code"], event["trace_id"]) == ("token.rejected", "authority", "aadsts_7000215", "t1")
    house.authority.error = None
    house.clock.time += 60
    assert await keyring.token(ACCOUNT)


async def test_a_refusal_of_one_profile_is_not_another_ones(house: House) -> None:
    """Each profile and scope has its own rest."""
    keyring = Keyring(house.cache, lambda profile: house.authority, scope_of=lambda account: account.name, now=house.clock)
    house.authority.error = AuthorityRefused("x", "No.", error="invalid_client")
    with pytest.raises(AuthorityRefused):
        await keyring.token(ACCOUNT)
    house.authority.error = None
    assert (await keyring.token(OTHER)).value.endswith("support")


async def test_the_authority_says_when_to_come_again(house: House) -> None:
    """Retry-After is respected, and what is left of it is told; without one the next call asks again."""
    keyring = house.keyring()
    house.authority.error = AuthorityDown("authority_busy", "429.", retry_after=30.0)
    with pytest.raises(AuthorityDown):
        await keyring.token(ACCOUNT)
    house.clock.time += 10
    with pytest.raises(AuthorityDown) as raised:
        await keyring.token(ACCOUNT)
    assert raised.value.retry_after == 20.0
    assert house.authority.asked == 1
    house.clock.time += 20
    house.authority.error = AuthorityDown("authority_timeout", "Late.")
    for _ in range(2):
        with pytest.raises(AuthorityDown, match="Late"):
            await keyring.token(ACCOUNT)
    assert house.authority.asked == 3


async def test_a_failure_goes_to_all_who_wait(house: House) -> None:
    """One question, one failure, and each of the waiters hears of it."""
    house.authority.error = AuthorityDown("authority_down", "Down.")
    keyring = house.keyring()
    answers = await asyncio.gather(*(keyring.token(ACCOUNT) for _ in range(10)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {AuthorityDown}
    assert house.authority.asked == 1


async def test_the_timer_renews_ahead(house: House, events: Any) -> None:
    """What ends within the time ahead is renewed for all instances; what does not is left alone."""
    timer, sender = house.keyring(), house.keyring()
    await sender.token(ACCOUNT)
    assert await timer.renew(ACCOUNT, 900.0) is False
    house.clock.time += 3600 - 300 - 900
    assert await timer.renew(OTHER, 900.0) is True
    assert house.authority.asked == 2
    house.clock.time += 900
    assert (await sender.token(ACCOUNT)).value.startswith("token 2")
    assert house.authority.asked == 2
    assert names(events()) == ["token.fetched", "token.reused", "token.refreshed", "token.reused"]


async def test_the_timer_fetches_what_nobody_has(house: House, events: Any) -> None:
    """An idle profile gets its token before the first mail needs it, and a barred one gets another."""
    timer = house.keyring()
    assert await timer.renew(ACCOUNT, 900.0) is True
    [token] = house.cache.tokens.values()
    await house.keyring().bar(ACCOUNT, token)
    assert await timer.renew(ACCOUNT, 900.0) is True
    assert names(events()) == ["token.fetched", "token.rejected", "token.refreshed"]


async def test_the_timer_and_a_sender_share_one_question(house: House) -> None:
    """Who renews and who wants a token at the same moment get the same new one, and so does who comes just after its answer."""
    keyring = house.keyring()
    house.authority.gate = asyncio.Event()
    renewing = asyncio.create_task(keyring.renew(ACCOUNT, 900))
    wanting = asyncio.create_task(keyring.token(ACCOUNT))
    await asyncio.sleep(0.01)
    house.authority.gate.set()
    await asyncio.gather(renewing, wanting)
    assert house.authority.asked == 1


async def test_the_timer_respects_a_refusal(house: House) -> None:
    """It does not hammer either."""
    timer = house.keyring()
    house.authority.error = AuthorityRefused("x", "No.", error="invalid_client")
    for _ in range(2):
        with pytest.raises(AuthorityRefused):
            await timer.renew(ACCOUNT, 900.0)
    assert house.authority.asked == 1


async def test_what_failed_is_an_event(house: House, events: Any) -> None:
    """No token, and no refusal either: who looks for the reason finds it, each time that the authority was asked."""
    house.authority.error = AuthorityDown("authority_down", "Down.", retry_after=7.0)
    keyring = house.keyring()
    for _ in range(2):
        with pytest.raises(AuthorityDown):
            await keyring.token(ACCOUNT)
    [event] = events()
    assert (event["event"], event["code"], event["retry_after"]) == ("token.failed", "authority_down", 7.0)
