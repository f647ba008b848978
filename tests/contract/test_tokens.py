"""The promises of `ports.Tokens`, with rows in Azurite and in the fake; what lies there is read and written by joserfc on its own."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from joserfc import jwe
from joserfc.jwk import OctKey

from mailroom.errors import VaultDown, VaultRefused
from mailroom.model.account import Storage
from mailroom.model.places import TOKENS_TABLE
from mailroom.model.row import Change, Row
from mailroom.model.token import Token
from mailroom.ports import Store
from mailroom.storage.rest import RestStore
from mailroom.storage.tokens import SEAL_SECRET, SealedTokens
from tests.fakes import FakeStore, FakeVault


@dataclass
class Cache:
    """Storage and vault that several processes share; `new` is one of them, with nothing in its memory."""

    store: Store
    vault: FakeVault
    prefix: str
    time: float

    def new(self) -> SealedTokens:
        return SealedTokens(self.store, self.vault, now=lambda: self.time)

    def token(self, value: str = "eyJ0eXAi.secret", lives: float = 3600.0) -> Token:
        return Token(f"{value}.{self.prefix}", self.time + lives)

    @property
    def key(self) -> str:
        """As long and strange as keys get; its own for every test, for Azurite has one MailTokens for all."""
        return f"{self.prefix}/client_credentials|https://graph.microsoft.com/.default?#"

    @property
    def seal(self) -> OctKey:
        return OctKey.import_key(base64.urlsafe_b64decode(self.vault.secrets[SEAL_SECRET] + "="))

    async def sealed_row(self) -> Row:
        mine = [row for row in await self.store.query(TOKENS_TABLE, "sealed") if row.values["ends"] == self.time + 3600.0]
        assert len(mine) == 1
        return mine[0]


@pytest.fixture(params=["rest", "fake"])
def cache(request: pytest.FixtureRequest, place: str) -> Cache:
    store: Store = FakeStore()
    if request.param == "rest":
        storage: Storage = request.getfixturevalue("storage")
        client: httpx.AsyncClient = request.getfixturevalue("client")
        store = RestStore(storage, client, None, resource="")  # type: ignore[arg-type]  # a key needs no identity
    return Cache(store, FakeVault(), place, time.time())


async def test_a_token_outlives_its_process(cache: Cache) -> None:
    """What one process seals another opens, under the key that the first one made in the vault."""
    assert await cache.new().get(cache.key) is None
    await cache.new().put(cache.key, cache.token())
    assert await cache.new().get(cache.key) == cache.token()
    await cache.new().put(cache.key, cache.token("newer"))
    assert await cache.new().get(cache.key) == cache.token("newer")
    assert await cache.new().get(cache.key + "other") is None


async def test_the_seal_is_a_standard_jwe(cache: Cache) -> None:
    """The row holds nothing readable but the end; joserfc alone opens it, with the vault's key: dir, A256GCM and the key's fingerprint."""
    await cache.new().put(cache.key, cache.token())
    row = await cache.sealed_row()
    assert set(row.values) == {"jwe", "ends"}
    assert cache.prefix not in str(row)
    opened = jwe.decrypt_compact(str(row.values["jwe"]), cache.seal)
    assert opened.protected["alg"] == "dir"
    assert opened.protected["enc"] == "A256GCM"
    assert len(opened.protected["kid"]) == 16
    content = json.loads(opened.plaintext or b"")
    assert content.items() >= {"key": cache.key, "value": cache.token().value, "expires_at": cache.token().expires_at}.items()


async def test_a_jwe_made_elsewhere_opens(cache: Cache) -> None:
    """What joserfc seals with the vault's key, in whatever order of members, is a token of ours."""
    await cache.new().put(cache.key, cache.token())
    content = json.dumps({"expires_at": cache.time + 60, "value": "made elsewhere", "key": cache.key}).encode()
    made = jwe.encrypt_compact({"enc": "A256GCM", "alg": "dir"}, content, cache.seal)
    await replace_value(cache, made)
    assert await cache.new().get(cache.key) == Token("made elsewhere", cache.time + 60)


async def replace_value(cache: Cache, value: Any) -> None:
    row = await cache.sealed_row()
    await cache.store.write(TOKENS_TABLE, [Change("merge", Row(row.partition, row.key, {"jwe": value}))])


def spoilt(sealed: str) -> list[str]:
    head, key, iv, text, tag = sealed.split(".")
    other = jwe.encrypt_compact({"alg": "dir", "enc": "A256GCM"}, b"{}", OctKey.import_key(b"k" * 32))
    return [
        "",
        "no jwe",
        "a.b.c.d.e",
        sealed[:-6],
        other,
        f"{head}.{key}.{iv}.{text[::-1]}.{tag}",
        f"{head[:-2]}.{key}.{iv}.{text}.{tag}",
        "é" + sealed,
    ]


@pytest.mark.parametrize("number", range(8))
async def test_what_cannot_be_opened_is_a_miss(cache: Cache, number: int) -> None:
    """A row that was tampered with, cut, or sealed by somebody else is as good as none: no error, no token."""
    await cache.new().put(cache.key, cache.token())
    await replace_value(cache, spoilt(str((await cache.sealed_row()).values["jwe"]))[number])
    assert await cache.new().get(cache.key) is None


async def test_a_row_opens_only_in_its_place(cache: Cache) -> None:
    """A sealed token that is copied to another account's row is a miss there."""
    await cache.new().put(cache.key, cache.token())
    stolen = str((await cache.sealed_row()).values["jwe"])
    await cache.new().put(cache.key, cache.token("other account"))
    await cache.new().put(cache.key + "victim", Token("x", cache.time + 7200))
    [row] = [row for row in await cache.store.query(TOKENS_TABLE, "sealed") if row.values["ends"] == cache.time + 7200]
    await cache.store.write(TOKENS_TABLE, [Change("merge", Row(row.partition, row.key, {"jwe": stolen}))])
    assert await cache.new().get(cache.key + "victim") is None


async def test_an_ended_token_is_a_miss(cache: Cache) -> None:
    """Nothing is handed out past its end."""
    process = cache.new()
    await process.put(cache.key, cache.token(lives=10))
    cache.time += 10
    assert await process.get(cache.key) is None


async def test_a_huge_token_is_not_sealed(cache: Cache) -> None:
    """What no row can hold is simply not kept."""
    await cache.new().put(cache.key, cache.token("x" * 60_000))
    assert await cache.new().get(cache.key) is None
    await cache.new().put(cache.key, cache.token("x" * 20_000))
    assert await cache.new().get(cache.key) == cache.token("x" * 20_000)


async def test_processes_agree_on_the_key(cache: Cache) -> None:
    """Of many that start at once with an empty vault all soon read what any of them seals."""
    processes = [cache.new() for _ in range(4)]
    await asyncio.gather(*(process.put(f"{cache.key}{n}", cache.token(str(n))) for n, process in enumerate(processes)))
    cache.time += 60
    await cache.new().put(cache.key, cache.token())
    assert [await process.get(cache.key) for process in processes] == [cache.token()] * 4
    for n, process in enumerate(processes):
        await process.put(cache.key, cache.token(str(n)))
        assert [await other.get(cache.key) for other in processes] == [cache.token(str(n))] * 4


async def test_a_changed_key_is_noticed(cache: Cache) -> None:
    """Who holds an old key reads the vault anew when a row does not open, at most once a minute."""
    old = cache.new()
    await old.put(cache.key, cache.token("old"))
    cache.vault.secrets[SEAL_SECRET] = base64.urlsafe_b64encode(b"n" * 32).decode()
    await cache.new().put(cache.key, cache.token("new"))
    assert await old.get(cache.key) is None
    cache.time += 60
    found = await old.get(cache.key)
    assert found is not None
    assert found.value == cache.token("new").value
    reads = len(cache.vault.reads)
    assert await old.get(cache.key) is not None
    assert len(cache.vault.reads) == reads


async def test_a_vault_that_fails_is_said(cache: Cache) -> None:
    """A vault that is down, or a key that is none, is an error with a next step: not a key that is made anew."""
    await cache.new().put(cache.key, cache.token())
    cache.vault.fault = VaultDown("vault_down", "Down.")
    with pytest.raises(VaultDown):
        await cache.new().get(cache.key)
    cache.vault.fault = None
    for bad in ("short", base64.urlsafe_b64encode(b"x" * 31).decode(), "ä"):
        cache.vault.secrets[SEAL_SECRET] = bad
        with pytest.raises(VaultRefused, match="base64url"):
            await cache.new().put(cache.key, cache.token())
        assert cache.vault.secrets[SEAL_SECRET] == bad


async def test_a_barred_token_is_barred_everywhere(cache: Cache) -> None:
    """Once one process bars a token, every new one knows, and one that asked before learns it within seconds."""
    early, process = cache.new(), cache.new()
    assert not await early.barred(cache.token())
    await process.bar(cache.token())
    assert await process.barred(cache.token())
    assert await cache.new().barred(cache.token())
    assert not await early.barred(cache.token())
    cache.time += 15
    assert await early.barred(Token(cache.token().value, cache.time + 3585))
    assert not await cache.new().barred(cache.token("another"))


async def test_bars_go_when_their_tokens_end(cache: Cache) -> None:
    """A bar lasts as long as its token would have; the next bar sweeps it away."""
    await cache.new().bar(cache.token("first", lives=100))
    cache.time += 101
    await cache.new().bar(cache.token("second", lives=100))
    keys = [row.key for row in await cache.store.query(TOKENS_TABLE, "bar")]
    assert Token(f"second.{cache.prefix}", 0).fingerprint in keys
    assert Token(f"first.{cache.prefix}", 0).fingerprint not in keys


async def test_bars_hold_no_token(cache: Cache) -> None:
    """A bar names its token by a fingerprint that leads nowhere."""
    await cache.new().bar(cache.token())
    assert cache.prefix not in str(await cache.store.query(TOKENS_TABLE, "bar"))
