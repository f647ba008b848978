"""The sandbox's identity endpoint against azure-identity, and requests that the platform refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
import pytest_asyncio

from sandbox import identity
from sandbox.directory import STORAGE, VAULT, Directory
from sandbox.faults import Faults
from sandbox.serve import serve
from sandbox.town import town
from tests.contract.sandbox_town import closing

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Site:
    directory: Directory
    endpoint: str
    header: str

    @property
    def client_id(self) -> str:
        return self.directory.app("mailroom-identity").client_id

    async def ask(self, header: str | None = None, **query: str) -> httpx.Response:
        params = {"api-version": "2019-08-01", "resource": VAULT, "client_id": self.client_id} | query
        headers = {"X-IDENTITY-HEADER": self.header if header is None else header}
        async with httpx.AsyncClient() as http:
            return await http.get(self.endpoint, params={k: v for k, v in params.items() if v}, headers=headers)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    directory, header = town(), identity.new_header()
    served = await serve(identity.create(directory, Faults(), header), None)
    yield Site(directory, served.url + identity.PATH, header)
    await served.stop()


@pytest.mark.parametrize("resource", [VAULT, STORAGE])
async def test_managed_identity_credential(site: Site, monkeypatch: pytest.MonkeyPatch, resource: str) -> None:
    """An unmodified ManagedIdentityCredential gets the user-assigned identity's token for the vault and for storage."""
    from azure.identity import ManagedIdentityCredential

    monkeypatch.setenv("IDENTITY_ENDPOINT", site.endpoint)
    monkeypatch.setenv("IDENTITY_HEADER", site.header)
    with closing(ManagedIdentityCredential(client_id=site.client_id)) as credential:
        token = await asyncio.to_thread(credential.get_token, f"{resource}/.default")
    claims = site.directory.check(token.token, [resource])
    assert (claims["appid"], claims["oid"]) == (site.client_id, site.directory.app("mailroom-identity").object_id)
    assert token.expires_on == pytest.approx(claims["exp"], abs=5)


async def test_the_answer(site: Site) -> None:
    """The answer has the members of the platform's, `expires_on` as a string, and a slash after the resource makes no difference."""
    answer = (await site.ask(resource=f"{VAULT}/")).json()
    assert set(answer) == {"access_token", "expires_on", "resource", "token_type", "client_id"}
    assert site.directory.check(answer["access_token"], [VAULT])["exp"] == int(answer["expires_on"])
    assert (answer["resource"], answer["client_id"]) == (f"{VAULT}/", site.client_id)


async def test_identity_by_its_principal(site: Site) -> None:
    """The identity may be named by its principal id too."""
    principal = site.directory.app("mailroom-identity").object_id
    assert (await site.ask(client_id="", principal_id=principal)).json()["client_id"] == site.client_id


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"header": ""}, 401),
        ({"header": "wrong"}, 401),
        ({"api-version": ""}, 400),
        ({"api-version": "2017-09-01"}, 400),
        ({"resource": ""}, 400),
        ({"client_id": ""}, 400),
        ({"client_id": "no-identity-of-ours"}, 400),
        ({"resource": "https://elsewhere.example"}, 500),
    ],
)
async def test_requests_that_are_refused(site: Site, change: dict[str, str], status: int) -> None:
    """Without the header, the version, the resource or an identity that the site has, there is no token."""
    answer = await site.ask(**change)
    assert (answer.status_code, answer.json()["statusCode"]) == (status, status)
    assert "access_token" not in answer.json()


async def test_an_app_is_no_identity(site: Site) -> None:
    """An app registration's client id gets nothing here, where no secret is asked for."""
    assert (await site.ask(client_id=site.directory.app("graph").client_id)).status_code == 400
