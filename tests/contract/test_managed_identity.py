"""The managed identity as a grant, on the wire to the platform's endpoint and to Graph: what it may, what it may not, and what fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio

from mailroom.credentials import managed_identity
from mailroom.errors import IdentityDown, MailroomError, ProviderError
from mailroom.identity import Identity
from mailroom.keyring import Keyring
from mailroom.model.account import Account, Profile
from mailroom.model.message import Address, Message, Outgoing, Receipt
from mailroom.model.token import Token
from mailroom.ports import Credential
from mailroom.providers import graph
from sandbox.directory import GRAPH
from tests.contract.sandbox_azure import SCOPE, Azure, azure
from tests.fakes import FakeParts

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANNA = "anna@mailroom.example"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sky(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Azure]:
    async with azure(tmp_path_factory.mktemp("azure")) as running:
        yield running


@pytest.fixture
def place(sky: Azure) -> Azure:
    sky.identity.app_roles = {GRAPH: ["Mail.Send", "Mail.Read"]}
    return sky.fresh()


def profile(place: Azure) -> Profile:
    return Profile("identity", "managed_identity", "", "", place.cloud)


def account(place: Azure) -> Account:
    return Account("billing", "graph", ANNA, profile(place))


def credential(place: Azure, client_id: str = "", endpoint: str = "", timeout: float = 5.0) -> Credential:
    env = {**place.env, **({"IDENTITY_ENDPOINT": endpoint} if endpoint else {})}
    http = place.office.http
    http.timeout = httpx.Timeout(timeout)
    who = Identity(http, env, client_id=client_id or place.identity.client_id, sleep=place.sleep)
    built: Credential = managed_identity.build(profile(place), FakeParts(http, identity=who))
    return built


async def send(place: Azure, token: Token) -> Receipt | ProviderError:
    mail = Outgoing("stamp", Message("billing", to=(Address(ANNA, ""),), subject="By the identity", text="Hello"))
    [answer] = await graph.build(place.parts()).send(account(place), [mail], token)
    return answer


async def test_the_identity_sends(place: Azure) -> None:
    """Its token is Graph's, of its own client id, and a mail goes with it: no app registration, no secret."""
    token = await credential(place).ask(graph.scope(account(place)))
    claims = place.directory.check(token.value, [GRAPH])
    assert (claims["appid"], claims["roles"]) == (place.identity.client_id, ["Mail.Send", "Mail.Read"])
    assert token.expires_at == claims["exp"]
    assert isinstance(await send(place, token), Receipt)


async def test_without_a_role_graph_says_which(place: Azure) -> None:
    """The platform gives a token all the same; the permission that lacks is named where it is needed, and nothing was sent."""
    place.identity.app_roles = {}
    token = await credential(place).ask(SCOPE)
    assert "roles" not in place.directory.check(token.value, [GRAPH])
    answer = await send(place, token)
    assert isinstance(answer, MailroomError)
    assert (answer.code, "Mail.Send" in answer.next_step) == ("access_denied", True)


async def test_an_application_without_a_role_is_told_the_same(place: Azure) -> None:
    """Nobody consented: the authority gives a token without roles, and Graph refuses it."""
    place.new_version()
    place.app.app_roles = {}
    token = await place.credential().ask(SCOPE)
    answer = await send(place, token)
    assert isinstance(answer, MailroomError)
    assert (answer.code, "Mail.Send" in answer.next_step) == ("access_denied", True)


async def test_each_question_reaches_the_platform(place: Azure) -> None:
    """What we remembered is no answer to who wants another token."""
    asked = place.faults.add({"service": "identity", "delay": 0})
    asks = credential(place)
    assert await asks.ask(SCOPE) != await asks.ask(SCOPE)
    assert asked.hits == 2


async def test_a_refused_token_is_replaced(place: Azure) -> None:
    """Through the keyring: asked once, kept, and after a 401 asked again."""

    class NoTokens:
        async def get(self, key: str) -> None:
            return None

        async def put(self, key: str, token: Token) -> None:
            return None

        async def bar(self, token: Token) -> None:
            return None

        async def barred(self, token: Token) -> bool:
            return False

    asks, billing = credential(place), account(place)
    keyring = Keyring(NoTokens(), lambda _: asks, scope_of=graph.scope)
    first = await keyring.token(billing)
    assert await keyring.token(billing) == first
    await keyring.bar(billing, first)
    assert await keyring.token(billing) != first


FAILURES: list[tuple[dict[str, Any], str]] = [
    ({"answer": "500"}, "identity_busy"),
    ({"answer": "429"}, "identity_throttled"),
    ({"answer": "503"}, "identity_busy"),
    ({"answer": "400"}, "identity_refused"),
    ({"answer": "html"}, "identity_gateway"),
    ({"answer": "garbage"}, "identity_unreadable"),
    ({"answer": "cut"}, "identity_down"),
    ({"answer": "hang"}, "identity_timeout"),
]


@pytest.mark.parametrize(("fault", "code"), FAILURES)
async def test_a_platform_that_fails(place: Azure, fault: dict[str, Any], code: str) -> None:
    """Each failure has its code and what to do, is asked again only as often as the platform's page says, and passes."""
    asks = credential(place, timeout=0.3 if fault["answer"] == "hang" else 5.0)
    struck = place.faults.add({"service": "identity", **fault})
    with pytest.raises(IdentityDown) as failed:
        await asks.ask(SCOPE)
    assert (failed.value.code, failed.value.status, failed.value.retryable) == (code, 503, True)
    assert failed.value.next_step
    assert struck.hits <= 4
    place.faults.clear()
    assert await asks.ask(SCOPE)


async def test_an_identity_that_the_app_has_not(place: Azure) -> None:
    """A wrong AZURE_CLIENT_ID is named as what to correct."""
    with pytest.raises(IdentityDown, match="AZURE_CLIENT_ID") as refused:
        await credential(place, client_id="66666666-7777-8888-9999-000000000000").ask(SCOPE)
    assert refused.value.code == "identity_refused"


async def test_a_cloud_whose_graph_is_another(place: Azure) -> None:
    """The platform knows no such resource; the error says for which one it was asked."""
    elsewhere = msgspec.structs.replace(place.cloud, graph_scope="https://graph.microsoft.us/.default")
    with pytest.raises(IdentityDown, match=r"500 for https://graph\.microsoft\.us\.") as unknown:
        await credential(place).ask(elsewhere.graph_scope)
    assert "cloud" in unknown.value.next_step


async def test_a_platform_that_is_not_there(place: Azure) -> None:
    """Nobody listens at IDENTITY_ENDPOINT."""
    with pytest.raises(IdentityDown) as down:
        await credential(place, endpoint="http://127.0.0.1:1/msi/token").ask(SCOPE)
    assert down.value.code == "identity_down"
