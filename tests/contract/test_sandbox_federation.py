"""The sandbox's federated credentials and addKey: an unmodified msal with an identity's token, and requests wrong in one part each."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from sandbox.directory import GRAPH, STORAGE, TOKEN_EXCHANGE, App, Federated
from sandbox.graph import create as create_graph
from sandbox.serve import serve
from tests.contract.sandbox_town import Certificate, Office, certificate, encode, office

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(frozen=True)
class Town:
    office: Office
    graph: str

    @property
    def identity(self) -> App:
        return self.office.directory.app("mailroom-identity")

    def app(self) -> App:
        """A new one that trusts the identity."""
        made = self.office.directory.register(App("trusting", app_roles={GRAPH: ["Mail.Send"]}))
        self.office.directory.trust(made, self.identity)
        return made

    async def sign_in(self, app: App, token: str) -> httpx.Response:
        return await self.office.ask(client_id=app.client_id, client_assertion_type=ASSERTION, client_assertion=token)

    async def add_key(self, app: App, body: dict[str, Any], object_id: str = "", as_app: App | None = None) -> httpx.Response:
        token = self.office.directory.issue((as_app or app).client_id, GRAPH)
        url = f"{self.graph}/v1.0/applications/{object_id or app.application_id}/addKey"
        return await self.office.http.post(url, json=body, headers={"Authorization": f"Bearer {token}"})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    async with office(tmp_path_factory.mktemp("town")) as entra:
        served = await serve(create_graph(entra.directory, entra.faults), entra.ca)
        yield Town(entra, served.url)
        await served.stop()


async def test_msal_signs_in_with_an_identitys_token(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unmodified msal hands over the managed identity's token, and gets one of the application."""
    import msal  # type: ignore[import-untyped]

    app, directory = town.app(), town.office.directory
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(town.office.ca.bundle))

    def ask() -> dict[str, Any]:
        credential = {"client_assertion": lambda: directory.issue(town.identity.client_id, TOKEN_EXCHANGE)}
        client = msal.ConfidentialClientApplication(
            app.client_id, client_credential=credential, authority=town.office.authority, instance_discovery=False
        )
        answer: dict[str, Any] = client.acquire_token_for_client([f"{GRAPH}/.default"])
        client.http_client.close()
        return answer

    answer = await asyncio.to_thread(ask)
    claims = directory.check(answer["access_token"], [GRAPH])
    assert (claims["appid"], claims["appidacr"], claims["roles"]) == (app.client_id, "2", ["Mail.Send"])


async def test_what_federation_refuses(town: Town) -> None:
    """Each of issuer, subject and audience that was not registered has its number, as has an app that trusts nobody."""
    directory = town.office.directory
    token = directory.issue(town.identity.client_id, TOKEN_EXCHANGE)
    stranger = directory.register(App("stranger", identity=True))
    app = town.app()
    cases = [
        (directory.register(App("trusts-nobody")), token, 700211),
        (app, directory.issue(stranger.client_id, TOKEN_EXCHANGE), 700213),
        (app, directory.issue(town.identity.client_id, TOKEN_EXCHANGE.upper()), 700211),  # a v1 token of another issuer
        (
            directory.register(App("other-audience", federated=[Federated(directory.issuer(2), town.identity.object_id, GRAPH)])),
            token,
            700212,
        ),
        (directory.register(App("upper", federated=[Federated(directory.issuer(2), town.identity.object_id.upper())])), token, 700213),
        (app, directory.issue(town.identity.client_id, TOKEN_EXCHANGE, lifetime=-400), 700024),
        (app, token[:-6] + "AAAAAA", 50013),
    ]
    for number, (who, presented, wanted) in enumerate(cases):
        answer = await town.sign_in(who, presented)
        assert answer.json()["error_codes"] == [wanted], number
        assert answer.status_code in (400, 401)
    assert (await town.sign_in(app, token)).status_code == 200


async def test_a_token_for_something_else_is_no_assertion(town: Town) -> None:
    """The identity's token for storage opens no application."""
    answer = await town.sign_in(town.app(), town.office.directory.issue(town.identity.client_id, STORAGE))
    assert answer.json()["error_codes"] == [700211]


def proof(key: Certificate, app: App, *, header: dict[str, Any] | None = None, pad: bool = False, **claims: Any) -> str:
    """As the documented sample makes it: RS256, named by its SHA-1 thumbprint, ten minutes long."""
    now = int(time.time())
    head = {"alg": "RS256", "typ": "JWT", "x5t": encode(key.certificate.fingerprint(hashes.SHA1()))} | (header or {})
    body = {"aud": "00000002-0000-0000-c000-000000000000", "iss": app.application_id, "nbf": now, "exp": now + 600} | claims
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in (head, body))
    signed = ".".join(part if pad else part.rstrip("=") for part in parts)
    return f"{signed}.{encode(key.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def body_of(new: Certificate, proof: str, **changes: Any) -> dict[str, Any]:
    credential = {"type": "AsymmetricX509Cert", "usage": "Verify", "key": base64.b64encode(new.der).decode()} | changes
    return {"keyCredential": credential, "passwordCredential": None, "proof": proof}


async def test_an_app_adds_a_key(town: Town) -> None:
    """With the proof that it has an older one; the answer shows the new one's thumbprint, and it signs in from then on."""
    app, old, new = town.app(), certificate(), certificate()
    town.office.directory.register_certificate(app.client_id, old.der)
    answer = await town.add_key(app, body_of(new, proof(old, app)))
    assert answer.status_code == 200
    assert base64.b64decode(answer.json()["customKeyIdentifier"]).hex() == new.thumbprint
    assert [one.fingerprint(hashes.SHA1()).hex() for one in app.certificates] == [old.thumbprint, new.thumbprint]


WRONG: dict[str, dict[str, Any]] = {
    "audience": {"aud": "00000003-0000-0000-c000-000000000000"},
    "issuer": {"iss": "someone-else"},
    "over": {"nbf": int(time.time()) - 1200, "exp": int(time.time()) - 600},
    "too long": {"exp": int(time.time()) + 86_400},
    "endless": {"exp": None},
    "algorithm": {"header": {"alg": "PS256"}},
    "unknown key": {"header": {"x5t": "AAAA"}},
    "padded": {"pad": True, "jti": "1"},
}


@pytest.mark.parametrize("part", WRONG)
async def test_proofs_that_are_refused(town: Town, part: str) -> None:
    """A proof that is wrong in one part adds nothing, and the answer does not say which part."""
    app, old, new = town.app(), certificate(), certificate()
    town.office.directory.register_certificate(app.client_id, old.der)
    answer = await town.add_key(app, body_of(new, proof(old, app, **WRONG[part])))
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "Authentication_MissingOrMalformed")
    assert len(app.certificates) == 1


async def test_who_may_add_a_key_to_what(town: Town) -> None:
    """To its own application only; not by an ended certificate's proof; and only a certificate can be added."""
    app, old, ended, new = town.app(), certificate(), certificate(ended=True), certificate()
    for one in (old, ended):
        town.office.directory.register_certificate(app.client_id, one.der)
    good = body_of(new, proof(old, app))
    assert (await town.add_key(app, good, as_app=town.app())).json()["error"]["code"] == "Authorization_RequestDenied"
    assert (await town.add_key(app, body_of(new, proof(ended, app)))).status_code == 401
    assert (await town.add_key(app, body_of(new, proof(old, app), key="AAAA"))).status_code == 400
    assert (await town.add_key(app, body_of(new, proof(old, app), usage="Sign"))).status_code == 400
    assert len(app.certificates) == 2
