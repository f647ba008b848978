"""The sandbox's Entra against the clients that Microsoft ships, and against assertions that are wrong in one part each."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from joserfc import jwt
from joserfc.jwk import KeySet

from sandbox.directory import API, GRAPH, App, BadToken
from tests.contract.sandbox_town import Certificate, Office, assertion, certificate, closing, office

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
GRAPH_SCOPE = f"{GRAPH}/.default"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def entra(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Office]:
    async with office(tmp_path_factory.mktemp("office")) as served:
        yield served


@pytest.fixture(scope="module")
def registered(entra: Office) -> Certificate:
    made = certificate()
    entra.directory.register_certificate(entra.directory.app("graph").client_id, made.der)
    return made


def token_with_msal(entra: Office, credential: Any, scope: str = GRAPH_SCOPE) -> dict[str, Any]:
    import msal  # type: ignore[import-untyped]
    import requests

    with requests.Session() as session:
        session.trust_env = False  # else REQUESTS_CA_BUNDLE, where it is set, wins over `verify`
        session.verify = str(entra.ca.bundle)
        app = msal.ConfidentialClientApplication(
            entra.directory.app("graph").client_id,
            client_credential=credential,
            authority=entra.authority,
            instance_discovery=False,
            http_client=session,
        )
        return dict(app.acquire_token_for_client([scope]))


async def test_msal_signs_in_with_a_secret(entra: Office) -> None:
    """An unmodified msal gets a Graph token for the app's secret, with the roles it was granted and no others."""
    answer = await asyncio.to_thread(token_with_msal, entra, entra.directory.app("graph").secret)
    claims = entra.directory.check(answer["access_token"], [GRAPH])
    assert claims["roles"] == ["Mail.Read", "Mail.ReadWrite", "Mail.Send"]
    assert (claims["ver"], claims["appidacr"], answer["expires_in"]) == ("1.0", "1", 3599)


async def test_msal_signs_in_with_ps256(entra: Office, registered: Certificate) -> None:
    """An unmodified msal signs PS256 with x5t#S256, padded as msal pads it, and the token says that a certificate was used."""
    credential = {"private_key": registered.key_pem, "public_certificate": registered.pem}
    answer = await asyncio.to_thread(token_with_msal, entra, credential)
    assert "error" not in answer, answer
    assert entra.directory.check(answer["access_token"], [GRAPH])["appidacr"] == "2"


@pytest.mark.filterwarnings("ignore:.*SHA-1 thumbprint:DeprecationWarning")  # the form under test is the deprecated one
async def test_msal_signs_in_with_rs256(entra: Office, registered: Certificate) -> None:
    """An unmodified msal signs RS256 with the SHA-1 thumbprint, the older form that some authorities want."""
    credential = {"private_key": registered.key_pem, "thumbprint": registered.thumbprint}
    answer = await asyncio.to_thread(token_with_msal, entra, credential)
    assert "error" not in answer, answer
    assert entra.directory.check(answer["access_token"], [GRAPH])["appidacr"] == "2"


async def test_msal_reports_a_wrong_secret(entra: Office) -> None:
    """msal hands the refusal on as the dict that it makes of real ones."""
    answer = await asyncio.to_thread(token_with_msal, entra, "not-the-secret")
    assert answer["error"] == "invalid_client"
    assert answer["error_codes"] == [7000215]


def token_with_azure_identity(entra: Office, **credential: Any) -> str:
    from azure.identity import CertificateCredential, ClientSecretCredential

    kind = ClientSecretCredential if "client_secret" in credential else CertificateCredential
    app = entra.directory.app("graph")
    options: dict[str, Any] = {
        "authority": entra.directory.authority,
        "disable_instance_discovery": True,
        "connection_verify": str(entra.ca.bundle),
    }
    with closing(kind(tenant_id=entra.directory.tenant, client_id=app.client_id, **options, **credential)) as client:
        return str(client.get_token(GRAPH_SCOPE).token)


@pytest.mark.filterwarnings("ignore:.*SHA-1 thumbprint:DeprecationWarning")  # azure-identity hands msal a SHA-1 thumbprint
@pytest.mark.parametrize("kind", ["secret", "certificate"])
async def test_azure_identity_signs_in(entra: Office, registered: Certificate, kind: str) -> None:
    """Unmodified ClientSecretCredential and CertificateCredential get a token."""
    pem = (registered.key_pem + registered.pem).encode()
    credential = {"client_secret": entra.directory.app("graph").secret} if kind == "secret" else {"certificate_data": pem}
    token = await asyncio.to_thread(lambda: token_with_azure_identity(entra, **credential))
    assert entra.directory.check(token, [GRAPH])["appid"] == entra.directory.app("graph").client_id


async def test_secret_by_http_basic(entra: Office) -> None:
    """The secret may come as HTTP Basic too, each half form-urlencoded first (RFC 6749, 2.3.1)."""
    app = entra.directory.register(App("basic", secrets={"a:b c+d": time.time() + 60}))
    basic = base64.b64encode(f"{app.client_id}:a%3Ab+c%2Bd".encode()).decode()
    answer = await entra.ask(headers={"Authorization": f"Basic {basic}"})
    assert answer.status_code == 200
    assert "roles" not in entra.directory.check(answer.json()["access_token"], [GRAPH])


async def test_our_own_api_gets_v2_tokens(entra: Office) -> None:
    """A token for our API is of version 2, for its client id, and verifies with discovered keys that name its issuer."""
    caller, api = entra.directory.app("caller"), entra.directory.app("mailroom-api")
    answer = await entra.ask(client_id=caller.client_id, client_secret=caller.secret, scope=f"{API}/.default")
    metadata = (await entra.http.get(f"{entra.authority}/v2.0/.well-known/openid-configuration")).json()
    keys = (await entra.http.get(metadata["jwks_uri"])).json()
    claims = jwt.decode(answer.json()["access_token"], KeySet.import_key_set(keys), algorithms=["RS256"]).claims
    assert (claims["aud"], claims["azp"], claims["ver"], claims["tid"]) == (api.client_id, caller.client_id, "2.0", entra.directory.tenant)
    assert claims["iss"] == metadata["issuer"] == keys["keys"][0]["issuer"] == f"{entra.authority}/v2.0"
    assert claims["roles"] == ["Mail.Send", "Mail.Read", "Mail.Manage"]


async def test_keys_for_many_tenants(entra: Office) -> None:
    """The keys under `common` carry an issuer with a placeholder, and old keys stay published after a rotation."""
    caller = entra.directory.app("caller")
    before = entra.directory.issue(caller.client_id, API)
    entra.directory.keys.rotate()
    keys = (await entra.http.get(f"{entra.directory.login_url('common')}/discovery/v2.0/keys")).json()["keys"]
    assert {key["issuer"] for key in keys} == {entra.directory.login_url("{tenantid}/v2.0")}
    assert len({key["kid"] for key in keys}) >= 2
    assert entra.directory.check(before, [API])["azp"] == caller.client_id


async def test_v1_metadata(entra: Office) -> None:
    """The v1 metadata names the issuer of v1 tokens, whichever name of the tenant is asked for."""
    by_domain = entra.directory.login_url(entra.directory.domain)
    metadata = (await entra.http.get(f"{by_domain}/.well-known/openid-configuration")).json()
    token = entra.directory.issue(entra.directory.app("graph").client_id, GRAPH)
    assert metadata["issuer"] == entra.directory.check(token, [GRAPH])["iss"]


async def test_the_shape_of_a_refusal(entra: Office) -> None:
    """A refusal has every member that a real one has, and carries the caller's correlation id."""
    mine = "6f3e3d1a-0c88-4d5b-9b3a-1f9f3f8a7c11"
    app = entra.directory.app("graph")
    answer = await entra.ask(client_id=app.client_id, client_secret="wrong", headers={"client-request-id": mine})
    body = answer.json()
    assert answer.status_code == 401
    assert answer.headers["client-request-id"] == body["correlation_id"] == mine
    assert body["error_description"].startswith("AADSTS7000215: Invalid client secret provided. Ensure")
    assert body["error_description"].endswith(f" Trace ID: {body['trace_id']} Correlation ID: {mine} Timestamp: {body['timestamp']}")
    assert body["error_uri"] == f"{entra.directory.authority}/error?code=7000215"


REFUSED = {
    "wrong secret": ({"client_secret": "wrong"}, 401, "invalid_client", 7000215),
    "no credential": ({"client_secret": ""}, 401, "invalid_client", 7000218),
    "unknown app": ({"client_id": "b0b0b0b0-0000-0000-0000-000000000000"}, 400, "unauthorized_client", 700016),
    "no client id": ({"client_id": ""}, 400, "invalid_request", 900144),
    "no scope": ({"scope": ""}, 400, "invalid_request", 900144),
    "no grant type": ({"grant_type": ""}, 400, "invalid_request", 900144),
    "unknown grant type": ({"grant_type": "magic"}, 400, "unsupported_grant_type", 70003),
    "scope without default": ({"scope": "https://graph.microsoft.com/Mail.Send"}, 400, "invalid_scope", 1002012),
    "scope encoded twice": ({"scope": "https%3A%2F%2Fgraph.microsoft.com%2F.default"}, 400, "invalid_scope", 1002012),
    "default and more": ({"scope": f"{GRAPH_SCOPE} Mail.Send"}, 400, "invalid_scope", 70011),
    "two resources": ({"scope": f"{GRAPH_SCOPE} https://vault.azure.net/.default"}, 400, "invalid_scope", 700022),
    "unknown resource": ({"scope": "https://elsewhere.example/.default"}, 400, "invalid_resource", 500011),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_requests_that_are_refused(entra: Office, case: str) -> None:
    """Each mistake in a request gets its own AADSTS number, `error` and status."""
    change, status, error, number = REFUSED[case]
    app = entra.directory.app("graph")
    form: dict[str, Any] = {"client_id": app.client_id, "client_secret": app.secret} | change
    answer = await entra.ask(**form)
    assert (answer.status_code, answer.json()["error"], answer.json()["error_codes"]) == (status, error, [number])


async def test_tenants_that_are_refused(entra: Office) -> None:
    """An unknown tenant is refused at the token endpoint and in discovery; an app alone cannot sign in to `common`."""
    app = entra.directory.app("graph")
    unknown = await entra.ask("nowhere.example", client_id=app.client_id, client_secret=app.secret)
    discovery = await entra.http.get(f"{entra.directory.login_url('nowhere.example')}/v2.0/.well-known/openid-configuration")
    common = await entra.ask("common", client_id=app.client_id, client_secret=app.secret)
    assert (unknown.status_code, unknown.json()["error"], unknown.json()["error_codes"]) == (400, "invalid_request", [90002])
    assert (discovery.status_code, discovery.json()["error"]) == (400, "invalid_tenant")
    assert common.json()["error_codes"] == [50059]


async def test_disabled_app_and_expired_secret(entra: Office) -> None:
    """A disabled app and an expired secret are told apart from a wrong secret."""
    disabled = entra.directory.register(App("disabled", disabled=True))
    expired = entra.directory.register(App("expired"))
    secret = expired.add_secret(ends=time.time() - 1)
    assert (await entra.ask(client_id=disabled.client_id, client_secret="any")).json()["error_codes"] == [7000112]
    refused = await entra.ask(client_id=expired.client_id, client_secret=secret)
    assert (refused.status_code, refused.json()["error_codes"]) == (401, [7000222])


async def test_an_assertion_may_come_again(entra: Office, registered: Certificate) -> None:
    """One assertion signs in twice, since msal uses each for nine minutes."""
    client_id = entra.directory.app("graph").client_id
    signed = assertion(registered, client_id, f"{entra.authority}/oauth2/v2.0/token")
    for _ in range(2):
        answer = await entra.ask(client_id=client_id, client_assertion_type=ASSERTION, client_assertion=signed)
        assert answer.status_code == 200


WRONG_ASSERTIONS: dict[str, tuple[dict[str, Any], int, int]] = {
    "audience": ({"aud": "https://login.example/oauth2/v2.0/token"}, 401, 700023),
    "issuer": ({"iss": "someone-else"}, 401, 700021),
    "subject": ({"sub": "someone-else"}, 401, 700021),
    "expired": ({"nbf": None, "exp": time.time() - 400}, 401, 700024),
    "not yet valid": ({"nbf": time.time() + 1000, "exp": time.time() + 2000}, 401, 700024),
    "without an end": ({"exp": None}, 400, 50027),
    "type": ({"header": {"typ": "at+jwt"}}, 400, 5002727),
    "algorithm that is no text": ({"header": {"alg": ["PS256"]}}, 401, 700027),
    "audience that is no text": ({"aud": ["x"]}, 401, 700023),
    "algorithm": ({"header": {"alg": "ES256"}}, 401, 700027),
    "unknown thumbprint": ({"header": {"x5t#S256": "AAAA"}}, 401, 700027),
    "no thumbprint": ({"header": {"x5t#S256": None}}, 401, 700027),
}


@pytest.mark.parametrize("part", WRONG_ASSERTIONS)
async def test_wrong_assertions(entra: Office, registered: Certificate, part: str) -> None:
    """An assertion that is wrong in one part is refused with the number of that part."""
    change, status, number = WRONG_ASSERTIONS[part]
    client_id = entra.directory.app("graph").client_id
    signed = assertion(registered, client_id, f"{entra.authority}/oauth2/v2.0/token", **change)
    answer = await entra.ask(client_id=client_id, client_assertion_type=ASSERTION, client_assertion=signed)
    assert (answer.status_code, answer.json()["error_codes"]) == (status, [number])


async def test_assertions_within_the_skew(entra: Office, registered: Certificate) -> None:
    """A clock that is four minutes off, either way, signs in."""
    client_id = entra.directory.app("graph").client_id
    for off in (-840, 240):
        start = time.time() + off
        signed = assertion(registered, client_id, f"{entra.authority}/oauth2/v2.0/token", nbf=start, exp=start + 600)
        answer = await entra.ask(client_id=client_id, client_assertion_type=ASSERTION, client_assertion=signed)
        assert answer.status_code == 200


@pytest.mark.parametrize("garbage", ["", "abc", "a.b.c", "e30.e30.", "ey.ey.ey", "\u00e9.\u00e9.\u00e9"])
async def test_malformed_assertions(entra: Office, garbage: str) -> None:
    """What is no JWT at all is malformed, or no credential where it is empty."""
    client_id = entra.directory.app("graph").client_id
    answer = await entra.ask(client_id=client_id, client_assertion_type=ASSERTION, client_assertion=garbage)
    assert answer.json()["error_codes"][0] in (50027, 5002727, 7000218)


async def test_signature_by_another_key(entra: Office, registered: Certificate) -> None:
    """A signature by another key under a registered thumbprint fails, and the answer names the key that was found."""
    client_id = entra.directory.app("graph").client_id
    forged = Certificate(certificate().key, registered.certificate)
    signed = assertion(forged, client_id, f"{entra.authority}/oauth2/v2.0/token")
    answer = await entra.ask(client_id=client_id, client_assertion_type=ASSERTION, client_assertion=signed)
    assert (answer.status_code, answer.json()["error_codes"]) == (401, [700027])
    assert "use of the key to verify the signature failed" in answer.json()["error_description"]


async def test_expired_certificate(entra: Office) -> None:
    """A registered certificate that has ended is refused, and the answer says so."""
    app, ended = entra.directory.register(App("late")), certificate(ended=True)
    entra.directory.register_certificate(app.client_id, ended.der)
    signed = assertion(ended, app.client_id, f"{entra.authority}/oauth2/v2.0/token")
    answer = await entra.ask(client_id=app.client_id, client_assertion_type=ASSERTION, client_assertion=signed)
    assert answer.json()["error_codes"] == [700027]
    assert "The key used is expired" in answer.json()["error_description"]


async def test_what_an_api_checks(entra: Office) -> None:
    """A token for another audience, a revoked one, an expired one and a changed one are all refused."""
    client_id, directory = entra.directory.app("graph").client_id, entra.directory
    revoked = directory.issue(client_id, GRAPH)
    directory.revoke(revoked)
    bad = [directory.issue(client_id, API), revoked, directory.issue(client_id, GRAPH, lifetime=0), directory.issue(client_id, GRAPH)[:-3]]
    for token in bad:
        with pytest.raises(BadToken):
            directory.check(token, [GRAPH])


async def test_several_sandboxes_side_by_side(entra: Office, tmp_path: Path) -> None:
    """Two tenants run in one process, and neither takes the other's tokens."""
    async with office(tmp_path) as other:
        token = other.directory.issue(other.directory.app("graph").client_id, GRAPH)
        with pytest.raises(BadToken):
            entra.directory.check(token, [GRAPH])


async def test_short_lives(tmp_path: Path) -> None:
    """A tenant may hand out tokens that end soon, and says so in the answer."""
    async with office(tmp_path) as hasty:
        hasty.directory.lifetime = 5
        app = hasty.directory.app("graph")
        answer = (await hasty.ask(client_id=app.client_id, client_secret=app.secret)).json()
        claims = hasty.directory.check(answer["access_token"], [GRAPH])
    assert answer["expires_in"] == claims["exp"] - claims["iat"] == 5


async def test_faults_on_request(entra: Office) -> None:
    """Told to fail once, the authority fails once, in the shape of its own errors."""
    entra.faults.add({"service": "entra", "path": "/token", "answer": "503", "retry_after": 1, "times": 1})
    app = entra.directory.app("graph")
    answers = [await entra.ask(client_id=app.client_id, client_secret=app.secret) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [503, 200]
    assert answers[0].json()["error"] == "temporarily_unavailable"
