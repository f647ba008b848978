"""The sandbox's Google against google-auth, unmodified, and requests that Google refuses, each wrong in one thing."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import requests
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from google.auth import exceptions, identity_pool
from google.auth.transport.requests import AuthorizedSession, Request
from google.oauth2 import service_account

from sandbox.directory import TOKEN_EXCHANGE
from sandbox.google.workspace import CLOUD, READONLY, SEND, Pool
from sandbox.town import town
from tests.contract import sandbox_google
from tests.contract.sandbox_google import ANNA, BEN, ROBOT, Office

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCOPES = [SEND, READONLY]
PROVIDER = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/azure/providers/entra"


class Place:
    def __init__(self, office: Office, bundle: Path) -> None:
        self.office = office
        self.bundle = str(bundle)
        self.key = json.loads(office.robot.new_json_key())
        self.url = office.workspace.url

    def session(self) -> requests.Session:
        session = requests.Session()
        session.verify, session.trust_env = self.bundle, False
        return session

    def credentials(self, subject: str | None = ANNA, scopes: list[str] = SCOPES) -> service_account.Credentials:
        info = self.key | {"token_uri": f"{self.url}/token"}
        return service_account.Credentials.from_service_account_info(info, scopes=scopes, subject=subject)

    def refresh(self, credentials: Any) -> Any:
        with closing(self.session()) as session:
            credentials.refresh(Request(session=session))
        return credentials

    def assertion(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A good one, but for what is given; a None leaves the member out."""
        now = int(time.time())
        head = {"alg": "RS256", "typ": "JWT", "kid": self.key["private_key_id"]} | (header or {})
        body = {"iss": ROBOT, "sub": ANNA, "scope": " ".join(SCOPES), "aud": f"{self.url}/token", "iat": now, "exp": now + 3600} | claims
        parts = ({name: value for name, value in part.items() if value is not None} for part in (head, body))
        signed = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
        key: Any = load_pem_private_key(self.key["private_key"].encode(), None)
        signature = key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"

    async def ask(self, assertion: str, grant: str = "urn:ietf:params:oauth:grant-type:jwt-bearer") -> tuple[int, str]:
        answer = await self.office.http.post(f"{self.url}/token", data={"grant_type": grant, "assertion": assertion})
        return answer.status_code, answer.json().get("error", "")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    folder = tmp_path_factory.mktemp("ca")
    async with sandbox_google.office(folder) as office:
        yield Place(office, next(folder.glob("*bundle*")))


async def test_googles_own_library_signs_in_and_sends(place: Place) -> None:
    """google-auth's service account, for Anna: a token, and a mail that is in Ben's inbox."""
    credentials = await asyncio.to_thread(place.refresh, place.credentials())
    grant = place.office.workspace.grant(credentials.token)
    assert grant
    assert grant.subject == ANNA

    def send() -> dict[str, Any]:
        raw = base64.urlsafe_b64encode(f"From: {ANNA}\r\nTo: {BEN}\r\nSubject: Hi\r\n\r\nHello\r\n".encode()).decode()
        with closing(AuthorizedSession(credentials)) as session:
            session.verify, session.trust_env = place.bundle, False
            answer = session.post(f"{place.url}/gmail/v1/users/me/messages/send", json={"raw": raw})
            return dict(answer.json())

    sent = await asyncio.to_thread(send)
    assert sent["labelIds"] == ["SENT"]
    assert [mail.subject for mail in place.office.google.office.mailbox(BEN).mails.values()] == ["Hi"]


async def test_googles_own_library_is_refused(place: Place) -> None:
    """An unknown mailbox and a scope that was not delegated are RefreshErrors, with Google's words."""
    for subject, scopes, said in (("nobody@workspace.example", SCOPES, "invalid_grant"), (ANNA, [CLOUD], "unauthorized_client")):
        with pytest.raises(exceptions.RefreshError, match=said):
            await asyncio.to_thread(place.refresh, place.credentials(subject, scopes))


async def test_googles_own_library_exchanges_a_token_of_entra(place: Place) -> None:
    """google-auth's identity pool: a token of the managed identity becomes one of Google's."""
    directory = town()
    directory.authority = "https://login.example"
    resource, who = directory.resource(TOKEN_EXCHANGE), directory.app("mailroom-identity")
    assert resource
    pool = Pool(PROVIDER, directory.issuer(2), resource.audience, directory.keys.verify)
    place.office.workspace.pools = {PROVIDER: pool}

    class Supplier(identity_pool.SubjectTokenSupplier):
        def get_subject_token(self, context: Any, request: Any) -> str:
            return directory.issue(who.client_id, TOKEN_EXCHANGE)

    credentials = identity_pool.Credentials(
        audience=PROVIDER,
        subject_token_type="urn:ietf:params:oauth:token-type:jwt",
        token_url=f"{place.url}/v1/token",
        subject_token_supplier=Supplier(),
        scopes=[CLOUD],
    )
    await asyncio.to_thread(place.refresh, credentials)
    grant = place.office.workspace.grant(credentials.token)
    assert grant
    assert grant.subject == pool.principal(who.object_id)


NOW = int(time.time())


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({}, ""),
        ({"header": {"kid": None}}, ""),
        ({"sub": None}, ""),
        ({"iss": "other@x.example"}, "invalid_grant"),
        ({"sub": "nobody@workspace.example"}, "invalid_grant"),
        ({"aud": "https://oauth2.googleapis.com/other"}, "invalid_grant"),
        ({"header": {"kid": "other"}}, "invalid_grant"),
        ({"header": {"alg": "none"}}, "invalid_grant"),
        ({"header": {"alg": "HS256"}}, "invalid_grant"),
        ({"exp": NOW + 86_400}, "invalid_grant"),
        ({"exp": NOW - 1}, "invalid_grant"),
        ({"exp": None}, "invalid_grant"),
        ({"iat": NOW + 86_400}, "invalid_grant"),
        ({"iat": "now"}, "invalid_grant"),
        ({"scope": ""}, "invalid_scope"),
        ({"scope": None}, "invalid_scope"),
        ({"scope": f"{SEND} {SEND}ing"}, "invalid_scope"),
        ({"scope": f"{SEND} {CLOUD}"}, "unauthorized_client"),
    ],
)
async def test_each_part_of_an_assertion_is_checked(place: Place, wrong: dict[str, Any], error: str) -> None:
    """Wrong in one thing it is refused for that; a missing key id or mailbox is none, as at Google."""
    status, said = await place.ask(place.assertion(**wrong))
    assert said == error
    assert (status == 200) is (error == "")


@pytest.mark.parametrize("assertion", ["", "no.jwt", "a.b.c", "e30.e30.", "W10.W10.AA"])
async def test_what_is_no_assertion(place: Place, assertion: str) -> None:
    """It is refused, never an error of the server."""
    status, said = await place.ask(assertion)
    assert status == 400
    assert said in ("invalid_grant", "invalid_request")


async def test_a_tampered_assertion(place: Place) -> None:
    """Another mailbox under the same signature, and a grant of another name."""
    head, _, signature = place.assertion().split(".")
    body = place.assertion(sub=BEN).split(".")[1]
    assert (await place.ask(f"{head}.{body}.{signature}"))[1] == "invalid_grant"
    assert (await place.ask(place.assertion(), grant="password"))[1] == "unsupported_grant_type"
