"""The gate takes what the sandbox's Entra hands out: discovered keys, claims of either version, refusals by name."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mailroom.errors import MailroomError
from mailroom.gate import Gate
from mailroom.model.account import Api, Caller, Cloud, Settings
from sandbox.directory import API, Directory, Resource
from tests.contract.sandbox_town import Office, office

pytestmark = pytest.mark.asyncio(loop_scope="module")

OLD_API = "api://mailroom-v1"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def entra(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Office]:
    async with office(tmp_path_factory.mktemp("office")) as served:
        served.directory.resources.append(Resource(OLD_API, "old-api-client", version=1))
        yield served


def gate(entra: Office, tenant: str = "") -> Gate:
    directory = entra.directory
    cloud = Cloud(directory.authority, "https://graph/v1.0", "scope", "vault", "storage")
    api = Api(tenant or directory.tenant, frozenset({API, OLD_API, directory.app("mailroom-api").client_id}), cloud)
    caller = Caller("caller", directory.app("caller").client_id, frozenset({"*"}), frozenset({"send", "read", "manage"}))
    return Gate(Settings({}, {}, {"caller": caller}, api, cloud, None, None), entra.http)


def bearer(directory: Directory, app: str = "caller", audience: str = API, **options: float) -> str:
    return f"Bearer {directory.issue(directory.app(app).client_id, audience, ['Mail.Send'], **options)}"


@pytest.mark.parametrize("audience", [API, OLD_API])
@pytest.mark.parametrize("by", ["tenant", "domain"])
async def test_what_entra_issues_is_taken(entra: Office, audience: str, by: str) -> None:
    """Tokens of version 2 and 1, whether [api] names the tenant by its GUID or by a domain."""
    caller = await gate(entra, getattr(entra.directory, by)).admit(bearer(entra.directory, audience=audience), "send")
    assert caller.name == "caller"


async def test_a_token_by_the_grant_is_taken(entra: Office) -> None:
    """As a caller gets it: client credentials for our scope, with all of its roles in it."""
    app = entra.directory.app("caller")
    answer = (await entra.ask(client_id=app.client_id, client_secret=app.secret, scope=f"{API}/.default")).json()
    for operation in ("send", "read", "manage"):
        assert await gate(entra).admit(f"Bearer {answer['access_token']}", operation)  # type: ignore[arg-type]


async def test_a_rotated_key_is_found(entra: Office) -> None:
    """A token signed with a key that was published after our start."""
    entra.directory.keys.rotate()
    first = gate(entra)
    await first.admit(bearer(entra.directory), "send")
    assert await first.admit(bearer(entra.directory, audience=OLD_API), "send")


async def test_what_is_not_for_us_is_refused(entra: Office) -> None:
    """Another API's, an ended one, another application's: each with its own code."""
    directory = entra.directory
    cases = {
        bearer(directory, audience="https://graph.microsoft.com"): "token_audience",
        bearer(directory, lifetime=-120): "token_expired",
        bearer(directory, app="graph"): "caller_unknown",
        f"{bearer(directory)[:-4]}AAAA": "token_signature",
    }
    for value, code in cases.items():
        with pytest.raises(MailroomError) as raised:
            await gate(entra).admit(value, "send")
        assert raised.value.code == code


async def test_an_unknown_tenant_closes_nothing_silently(entra: Office) -> None:
    """Nobody publishes keys for it: 503 that says where to look."""
    with pytest.raises(MailroomError) as raised:
        await gate(entra, "99999999-0000-0000-0000-000000000000").admit(bearer(entra.directory), "send")
    assert (raised.value.status, raised.value.code) == (503, "authority_unreadable")
    assert "[api]" in raised.value.next_step
