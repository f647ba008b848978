"""Tokens of the app's own identity: kept, renewed in time, fetched once for all who wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from azure.core.exceptions import ClientAuthenticationError

from mailroom.errors import IdentityDown
from mailroom.identity import DeveloperCredential, Identity
from mailroom.model.token import Token

STORAGE = "https://storage.azure.com"


class Platform:
    """The identity endpoint: answers with tokens of a given life, or with what `script` holds."""

    def __init__(self, *script: httpx.Response | Exception, lives: float = 86400.0) -> None:
        self.script = list(script)
        self.lives = lives
        self.time = 1_795_000_000.0
        self.asked: list[httpx.Request] = []
        self.slept: list[float] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        await asyncio.sleep(0)
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Exception):
            raise step
        number = len(self.asked)
        return step or httpx.Response(
            200, json={"access_token": f"t{number}", "expires_on": str(int(self.time + self.lives)), "resource": "r"}
        )

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def run(self, work: Callable[[Identity], Coroutine[Any, Any, Any]], client_id: str | None = "me") -> Any:
        async def running() -> Any:
            async with httpx.AsyncClient(transport=httpx.MockTransport(self)) as client:
                env = {"IDENTITY_ENDPOINT": "http://169.254.130.2:8081/msi/token", "IDENTITY_HEADER": "secret"}
                return await work(Identity(client, env, client_id=client_id, now=lambda: self.time, sleep=self.sleep))

        return asyncio.run(running())


def test_the_endpoint_is_asked_as_documented() -> None:
    """api-version 2019-08-01, the resource, the client id where there is one, and the header that keeps forged requests out."""
    platform = Platform()
    token = platform.run(lambda identity: identity.token(STORAGE))
    assert token == Token("t1", platform.time + 86400)
    assert dict(platform.asked[0].url.params) == {"resource": STORAGE, "api-version": "2019-08-01", "client_id": "me"}
    assert platform.asked[0].headers["X-IDENTITY-HEADER"] == "secret"
    platform.run(lambda identity: identity.token(STORAGE), client_id=None)
    assert "client_id" not in platform.asked[1].url.params


def test_a_token_is_kept_until_it_nears_its_end() -> None:
    """One call a resource for hours; it is renewed five minutes before its end, or after half its life where that is short."""

    async def work(identity: Identity) -> None:
        for _ in range(3):
            await identity.token(STORAGE)
            await identity.token("https://vault.azure.net")
        assert len(platform.asked) == 2
        platform.time += platform.lives - 301
        await identity.token(STORAGE)
        assert len(platform.asked) == 2
        platform.time += 2
        platform.lives = 60.0
        assert (await identity.token(STORAGE)).value == "t3"
        platform.time += 29
        assert (await identity.token(STORAGE)).value == "t3"
        platform.time += 2
        assert (await identity.token(STORAGE)).value == "t4"

    platform = Platform()
    platform.run(work)


def test_all_who_wait_share_one_call() -> None:
    """A hundred at the same time cost one request, and who is cancelled does not take the others' token along."""

    async def work(identity: Identity) -> None:
        waiting = [asyncio.ensure_future(identity.token(STORAGE)) for _ in range(100)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        assert {token.value for token in await asyncio.gather(*waiting[1:])} == {"t1"}

    platform = Platform()
    platform.run(work)
    assert len(platform.asked) == 1


def test_a_passing_fault_passes() -> None:
    """Timeouts, 429 and 5xx are tried again with growing pauses."""
    platform = Platform(httpx.ReadTimeout(""), httpx.Response(429), httpx.Response(500))
    assert platform.run(lambda identity: identity.token(STORAGE)).value == "t4"
    assert len(platform.slept) == 3


@pytest.mark.parametrize(
    ("step", "code"),
    [
        (httpx.ConnectError(""), "identity_down"),
        (httpx.Response(400, json={"statusCode": 400, "message": "No User Assigned Identity found"}), "identity_refused"),
        (httpx.Response(500), "identity_busy"),
        (httpx.Response(200, text="<html>"), "identity_unreadable"),
        (httpx.Response(200, json={"access_token": "t", "expires_on": "tomorrow"}), "identity_unreadable"),
    ],
)
def test_a_failure_says_what_to_do(step: httpx.Response | Exception, code: str) -> None:
    """No token ends as IdentityDown, for all who waited, without the header in it; the next call asks again."""

    async def work(identity: Identity) -> None:
        failures = await asyncio.gather(*(identity.token(STORAGE) for _ in range(3)), return_exceptions=True)
        for failed in failures:
            assert isinstance(failed, IdentityDown)
            assert failed.code == code
            assert "secret" not in str(failed)
        platform.script.clear()
        assert (await identity.token(STORAGE)).value.startswith("t")

    platform = Platform(step, step, step, step)
    platform.run(work)


class SignedIn:
    """What `az login` left, or nothing."""

    def __init__(self, *, out: bool = False) -> None:
        self.out = out
        self.scopes: list[str] = []

    def get_token(self, *scopes: str) -> Any:
        if self.out:
            raise ClientAuthenticationError("Please run 'az login'")
        self.scopes += scopes
        return SimpleNamespace(token="mine", expires_on=int(time.time()) + 3600)


def developer(credential: DeveloperCredential) -> Token:
    async def running() -> Token:
        async with httpx.AsyncClient() as client:
            identity = Identity(client, {}, developer=lambda: credential)
            await identity.token(STORAGE)
            return await identity.token(STORAGE)

    return asyncio.run(running())


def test_a_developer_signs_in_by_hand() -> None:
    """Without IDENTITY_ENDPOINT the developer's own sign-in is used, once for as long as the token lives."""
    signed_in = SignedIn()
    assert developer(signed_in).value == "mine"
    assert signed_in.scopes == [f"{STORAGE}/.default"]


def test_a_developer_who_is_not_signed_in_is_told_how() -> None:
    """The next step is `az login`, or a connection string."""
    with pytest.raises(IdentityDown, match="az login") as missing:
        developer(SignedIn(out=True))
    assert missing.value.code == "identity_missing"
