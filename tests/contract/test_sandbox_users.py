"""The sandbox's people: an unmodified msal signs them in by every grant, and each thing that stands in the way has its number."""

from __future__ import annotations

import asyncio
import html
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio

from sandbox.directory import GRAPH, App
from sandbox.graph import access
from sandbox.graph.errors import GraphError
from sandbox.users import User
from tests.contract.sandbox_town import Office, office

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:.*deprecated for public client flows:DeprecationWarning"),  # the grant under test is what it is
]

SCOPES = [f"{GRAPH}/Mail.Send", f"{GRAPH}/Mail.Read"]
OIDC = "openid profile offline_access"
REDIRECT = "http://localhost:51234"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def entra(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Office]:
    async with office(tmp_path_factory.mktemp("office")) as served:
        served.directory.delegations.interval = 0
        yield served


@pytest.fixture
def app(entra: Office) -> App:
    """A public one, to which the administrator has consented."""
    entra.directory.now = time.time
    return entra.directory.register(
        App("tool", public=True, redirect_uris={"http://localhost"}, delegated={GRAPH: {"Mail.Send", "Mail.Read"}})
    )


@pytest.fixture
def user(entra: Office) -> User:
    return entra.directory.add_user(User("dora@mailroom.example"))


async def with_msal(entra: Office, app: App, ask: Callable[[Any], Any]) -> Any:
    """What an unmodified msal makes of it: a public client, or a confidential one where the app has a secret."""

    def run() -> Any:
        import msal  # type: ignore[import-untyped]
        import requests

        class Session(requests.Session):
            def get(self, url: str | bytes, **options: Any) -> requests.Response:
                """msal asks for a realm at the authority's host without its port; in a real cloud there is none."""
                return super().get(str(url).replace("https://localhost/", f"{entra.directory.authority}/"), **options)

        with Session() as session:
            session.trust_env = False
            session.verify = str(entra.ca.bundle)
            options: dict[str, Any] = {"authority": entra.authority, "instance_discovery": False, "http_client": session}
            if app.secrets:
                return ask(msal.ConfidentialClientApplication(app.client_id, client_credential=app.secret, **options))
            return ask(msal.PublicClientApplication(app.client_id, **options))

    return await asyncio.to_thread(run)


async def form(entra: Office, page: str, where: str, **typed: str) -> Any:
    """What a browser sends when the page's form is filled in and sent off."""
    action = html.unescape(re.search(r'action="([^"]*)"', page)[1])  # type: ignore[index]
    hidden = {html.unescape(n): html.unescape(v) for n, v in re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', page)}
    at = urlsplit(where)
    return action, hidden | typed, await entra.http.post(f"{at.scheme}://{at.netloc}{action}", data=hidden | typed)


def posted(page: str) -> tuple[str, dict[str, str]]:
    """Where a form post response goes to, and what it says."""
    action = html.unescape(re.search(r'action="([^"]*)"', page)[1])  # type: ignore[index]
    return action, {html.unescape(n): html.unescape(v) for n, v in re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', page)}


@pytest.mark.parametrize("confidential", [False, True])
async def test_msal_signs_a_user_in_by_password(entra: Office, app: App, user: User, confidential: bool) -> None:
    """Realm, password, tokens: `scp` holds what was consented to, and the token says how the client proved itself."""
    if confidential:
        app.add_secret(time.time() + 60)
    answer = await with_msal(entra, app, lambda msal: msal.acquire_token_by_username_password(user.address, user.password, SCOPES))
    claims = entra.directory.check(answer["access_token"], [GRAPH])
    assert (claims["scp"], claims["upn"], claims["oid"]) == ("Mail.Read Mail.Send", user.address, user.object_id)
    assert claims["appidacr"] == ("1" if confidential else "0")
    assert "roles" not in claims
    assert answer["id_token_claims"]["preferred_username"] == user.address
    assert answer["refresh_token"]


async def test_a_users_token_opens_their_mailbox_alone(entra: Office, app: App, user: User) -> None:
    """Graph lets it do what was consented to in that user's mailbox, and nothing in another's, whatever Exchange grants the app."""
    app.exchange["*"] = {"Application Mail.Send"}
    answer = await entra.ask(
        grant_type="password", client_id=app.client_id, username=user.address, password=user.password, scope=" ".join(SCOPES)
    )
    claims = access.check(entra.directory, f"Bearer {answer.json()['access_token']}")
    assert access.roles(entra.directory, claims, user.address.upper()) == {"Mail.Send", "Mail.Read"}
    assert access.roles(entra.directory, claims, "anna@mailroom.example") == frozenset()


async def test_me_is_whose_token_it_is(entra: Office, app: App, user: User) -> None:
    """And an application is nobody."""
    answer = await entra.ask(grant_type="password", client_id=app.client_id, username=user.address, password=user.password)
    assert access.me(access.check(entra.directory, f"Bearer {answer.json()['access_token']}")) == user.address
    application = entra.directory.issue(entra.directory.app("graph").client_id, GRAPH)
    with pytest.raises(GraphError, match="only valid with delegated"):
        access.me(access.check(entra.directory, f"Bearer {application}"))


async def test_tokens_come_for_what_was_asked(entra: Office, app: App, user: User) -> None:
    """No refresh token without offline_access, no ID token without openid; `.default` is everything that was consented to."""
    fields = {"grant_type": "password", "client_id": app.client_id, "username": user.address, "password": user.password}
    bare = (await entra.ask(**fields, scope=f"{GRAPH}/.default")).json()
    assert not {"refresh_token", "id_token"} & bare.keys()
    assert entra.directory.check(bare["access_token"], [GRAPH])["scp"] == "Mail.Read Mail.Send"


STOPPED = [50053, 50055, 50057, 50074, 50076, 50079, 53003, 530035]


@pytest.mark.parametrize("number", STOPPED)
async def test_what_stops_a_user(entra: Office, app: App, user: User, number: int) -> None:
    """Each has its number, with the right password only; msal hands it on."""
    user.refusal = number
    answer = await with_msal(entra, app, lambda msal: msal.acquire_token_by_username_password(user.address, user.password, SCOPES))
    assert answer["error_codes"] == [number]
    wrong = await with_msal(entra, app, lambda msal: msal.acquire_token_by_username_password(user.address, "wrong", SCOPES))
    assert wrong["error_codes"] == [50126]


PASSWORD_REQUESTS: dict[str, tuple[dict[str, str], int]] = {
    "unknown user": ({"username": "nobody@mailroom.example"}, 50034),
    "wrong password": ({"password": "wrong"}, 50126),
    "no password": ({"password": ""}, 900144),
    "unknown permission": ({"scope": f"{GRAPH}/Mail.Juggle"}, 650053),
    "no consent": ({"scope": f"{GRAPH}/Mail.ReadWrite"}, 65001),
    "two resources": ({"scope": f"{GRAPH}/Mail.Send https://vault.azure.net/user_impersonation"}, 28000),
    "unknown resource": ({"scope": "https://elsewhere.example/Mail.Send"}, 500011),
    "a secret of a public client": ({"client_secret": "x"}, 700025),
}


@pytest.mark.parametrize("case", PASSWORD_REQUESTS)
async def test_password_requests_that_are_refused(entra: Office, app: App, user: User, case: str) -> None:
    """Each mistake has its own number."""
    change, number = PASSWORD_REQUESTS[case]
    fields = {"grant_type": "password", "client_id": app.client_id, "username": user.address, "password": user.password}
    answer = await entra.ask(**fields | {"scope": " ".join(SCOPES)} | change)
    assert (answer.status_code >= 400, answer.json()["error_codes"]) == (True, [number])


async def test_common_takes_no_passwords(entra: Office, app: App, user: User) -> None:
    """`organizations` does."""
    fields = {"grant_type": "password", "client_id": app.client_id, "username": user.address, "password": user.password}
    assert (await entra.ask("common", **fields)).json()["error_codes"] == [9001023]
    assert (await entra.ask("organizations", **fields)).status_code == 200


async def test_an_app_that_is_not_public_needs_its_secret(entra: Office, app: App, user: User) -> None:
    """As for every confidential client."""
    app.public = False
    fields = {"grant_type": "password", "client_id": app.client_id, "username": user.address, "password": user.password}
    assert (await entra.ask(**fields)).json()["error_codes"] == [7000218]


async def test_too_many_wrong_passwords_lock(entra: Office, app: App, user: User) -> None:
    """Ten in a row, for a minute; the right one is refused meanwhile."""
    fields = {"grant_type": "password", "client_id": app.client_id, "username": user.address}
    for _ in range(10):
        assert (await entra.ask(**fields, password="wrong")).json()["error_codes"] == [50126]
    assert (await entra.ask(**fields, password=user.password)).json()["error_codes"] == [50053]
    entra.directory.now = lambda: time.time() + 61
    assert (await entra.ask(**fields, password=user.password)).status_code == 200


async def test_a_federated_users_realm(entra: Office, app: App, user: User) -> None:
    """The realm names the other authority; a password sent to Entra all the same is wrong."""
    user.federated = True
    realm = (await entra.http.get(f"{entra.directory.authority}/common/userrealm/{user.address}?api-version=1.0")).json()
    assert (realm["account_type"], realm["federation_protocol"]) == ("Federated", "WSTrust")
    fields = {"grant_type": "password", "client_id": app.client_id, "username": user.address, "password": user.password}
    assert (await entra.ask(**fields)).json()["error_codes"] == [50126]
    unknown = (await entra.http.get(f"{entra.directory.authority}/common/userrealm/x@elsewhere.example?api-version=1.0")).json()
    assert unknown["account_type"] == "Unknown"


async def refresh(entra: Office, app: App, token: str, scope: str = f"{GRAPH}/.default {OIDC}") -> dict[str, Any]:
    answer: dict[str, Any] = (await entra.ask(grant_type="refresh_token", client_id=app.client_id, refresh_token=token, scope=scope)).json()
    return answer


async def signed_in(entra: Office, app: App, user: User) -> str:
    fields = {"grant_type": "password", "client_id": app.client_id, "username": user.address, "password": user.password}
    return str((await entra.ask(**fields, scope=f"{GRAPH}/.default {OIDC}")).json()["refresh_token"])


async def test_msal_refreshes(entra: Office, app: App, user: User) -> None:
    """A new access token and a new refresh token; the old one is not revoked by its use."""
    old = await signed_in(entra, app, user)
    answers = [await with_msal(entra, app, lambda msal: msal.acquire_token_by_refresh_token(old, SCOPES)) for _ in range(2)]
    assert all(entra.directory.check(answer["access_token"], [GRAPH])["upn"] == user.address for answer in answers)
    assert len({old, *(answer["refresh_token"] for answer in answers)}) == 3


async def test_refresh_tokens_end(entra: Office, app: App, user: User) -> None:
    """By age, by revocation, with their consent and with their user; each has its number. A rotated one lives on."""
    old = await signed_in(entra, app, user)
    entra.directory.now = lambda: time.time() + 80 * 86_400
    rotated = (await refresh(entra, app, old))["refresh_token"]
    entra.directory.now = lambda: time.time() + 91 * 86_400
    assert (await refresh(entra, app, old))["error_codes"] == [700082]
    assert "access_token" in await refresh(entra, app, rotated)
    user.refusal = 50057
    assert (await refresh(entra, app, rotated))["error_codes"] == [50057]
    user.refusal, app.delegated = None, {}
    assert (await refresh(entra, app, rotated))["error_codes"] == [65001]
    user.revoked_at = entra.directory.now()
    assert (await refresh(entra, app, rotated))["error_codes"] == [50173]


async def test_a_refresh_token_is_its_clients(entra: Office, app: App, user: User) -> None:
    """Another client's is malformed, as is one that nobody has issued."""
    token = await signed_in(entra, app, user)
    other = entra.directory.register(App("other", public=True, delegated=app.delegated))
    assert (await refresh(entra, other, token))["error_codes"] == [70000]
    assert (await refresh(entra, app, "nonsense"))["error_codes"] == [70000]


async def device_page(entra: Office, code: str, **typed: str) -> Any:
    page = await entra.http.get(f"{entra.directory.authority}/common/oauth2/deviceauth")
    _, _, answer = await form(entra, page.text, str(page.url), user_code=code, **typed)
    return answer


async def test_msal_signs_a_user_in_by_device_code(entra: Office, app: App, user: User) -> None:
    """Pending until the page was answered; MFA is settled there, and so is the consent."""
    app.delegated = {}
    user.refusal = 50076
    flow = await with_msal(entra, app, lambda msal: msal.initiate_device_flow(SCOPES))
    assert flow["user_code"] in flow["message"]
    once: Callable[[Any], Any] = lambda msal: msal.acquire_token_by_device_flow(flow, exit_condition=lambda _: True)  # noqa: E731
    flow["interval"] = 0.001  # msal takes 0 for "unknown" and polls once a second
    assert (await with_msal(entra, app, lambda msal: msal.client._obtain_token_by_device_flow(flow)))["error"] == "authorization_pending"
    assert (await device_page(entra, flow["user_code"], username=user.address, password="wrong", answer="yes")).status_code == 400
    done = await device_page(entra, flow["user_code"].lower(), username=user.address, password=user.password, answer="yes")
    assert "You may now close this window" in done.text
    answer = await with_msal(entra, app, once)
    assert entra.directory.check(answer["access_token"], [GRAPH])["scp"] == "Mail.Read Mail.Send"
    assert answer["refresh_token"]
    assert (await with_msal(entra, app, once))["error"] == "bad_verification_code"


async def poll(entra: Office, app: App, code: str) -> str:
    return str((await entra.ask(grant_type=DEVICE, client_id=app.client_id, device_code=code, scope="")).json()["error"])


async def begun(entra: Office, app: App) -> dict[str, Any]:
    url = f"{entra.authority}/oauth2/v2.0/devicecode"
    answer: dict[str, Any] = (await entra.http.post(url, data={"client_id": app.client_id, "scope": " ".join(SCOPES)})).json()
    return answer


async def test_a_device_code_that_leads_nowhere(entra: Office, app: App, user: User) -> None:
    """Declined, expired, unknown, and asked about too often."""
    declined = await begun(entra, app)
    assert "declined" in (await device_page(entra, declined["user_code"], answer="no")).text
    assert await poll(entra, app, declined["device_code"]) == "authorization_declined"
    assert await poll(entra, app, "nonsense") == "bad_verification_code"
    assert "Check the code and try again" in (await device_page(entra, "NONSENSE", answer="yes")).text
    late = await begun(entra, app)
    entra.directory.delegations.interval = 5
    assert [await poll(entra, app, late["device_code"]) for _ in range(2)] == ["authorization_pending", "slow_down"]
    entra.directory.delegations.interval = 0
    entra.directory.now = lambda: time.time() + 901
    assert await poll(entra, app, late["device_code"]) == "expired_token"


@pytest.mark.parametrize("signed", [False, True])
async def test_msal_signs_a_user_in_by_code(entra: Office, app: App, user: User, signed: bool) -> None:
    """Page or session, form post, code with PKCE and nonce; a code is good once."""
    app.delegated, user.signed_in = {}, signed
    flow = await with_msal(
        entra,
        app,
        lambda msal: msal.initiate_auth_code_flow(SCOPES, redirect_uri=REDIRECT, login_hint=user.address, response_mode="form_post"),
    )
    page = await entra.http.get(flow["auth_uri"])
    if not signed:
        _, _, page = await form(entra, page.text, flow["auth_uri"], username=user.address, password=user.password, answer="yes")
    where, response = posted(page.text)
    assert where == REDIRECT
    answer = await with_msal(entra, app, lambda msal: msal.acquire_token_by_auth_code_flow(dict(flow), response))
    assert answer["id_token_claims"]["preferred_username"] == user.address
    assert answer["refresh_token"]
    again = await with_msal(entra, app, lambda msal: msal.acquire_token_by_auth_code_flow(dict(flow), response))
    assert again["error_codes"] == [54005]


async def authorized(entra: Office, app: App, user: User, **changes: str) -> dict[str, str]:
    """The response by redirect of a signed-in user."""
    user.signed_in = True
    fields = {"client_id": app.client_id, "response_type": "code", "redirect_uri": REDIRECT, "scope": " ".join(SCOPES), "state": "s"}
    query = fields | {"login_hint": user.address, "code_challenge": "x" * 43, "code_challenge_method": "S256"} | changes
    answer = await entra.http.get(f"{entra.authority}/oauth2/v2.0/authorize", params=query)
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}


async def test_the_verifier_is_checked(entra: Office, app: App, user: User) -> None:
    """Who has the code without the verifier has nothing (RFC 7636, 4.6); nor has who names another redirect, or comes late."""
    code = (await authorized(entra, app, user))["code"]
    fields = {"grant_type": "authorization_code", "client_id": app.client_id, "code": code, "redirect_uri": REDIRECT}
    wrong = await entra.ask(**fields, code_verifier="y" * 43)
    elsewhere = await entra.ask(**fields | {"redirect_uri": "http://localhost:1"}, code_verifier="y" * 43)
    entra.directory.now = lambda: time.time() + 601
    late = await entra.ask(**fields)
    assert [answer.json()["error_codes"] for answer in (wrong, elsewhere, late)] == [[501481], [70000], [70008]]


async def test_authorization_requests_that_are_refused(entra: Office, app: App, user: User) -> None:
    """What is wrong with the client or its address stays on a page; the rest goes back to the application, with the state."""
    fields = {"client_id": app.client_id, "redirect_uri": "https://evil.example", "response_type": "code"}
    for change, number in (({}, "AADSTS50011"), ({"client_id": "b0b0"}, "AADSTS700016")):
        page = await entra.http.get(f"{entra.authority}/oauth2/v2.0/authorize", params=fields | change)
        assert page.status_code == 400
        assert number in page.text
    assert (await authorized(entra, app, user, code_challenge_method="plain"))["error"] == "invalid_request"
    assert (await authorized(entra, app, user, scope=f"{GRAPH}/Mail.Juggle"))["error_description"].startswith("AADSTS650053")
    blocked = replace(user, refusal=53003, address="eva@mailroom.example", signed_in=True)
    entra.directory.add_user(blocked)
    told = await authorized(entra, app, blocked)
    assert (told["state"], told["error_description"][:11]) == ("s", "AADSTS53003")


async def test_who_cancels_is_told_apart(entra: Office, app: App, user: User) -> None:
    """`access_denied`, by the application's own way back."""
    query = {"client_id": app.client_id, "response_type": "code", "redirect_uri": REDIRECT, "scope": SCOPES[0], "state": "<&>"}
    page = await entra.http.get(f"{entra.authority}/oauth2/v2.0/authorize", params=query | {"response_mode": "form_post"})
    _, _, answer = await form(entra, page.text, str(page.url), answer="no")
    where, told = posted(answer.text)
    assert (where, told["error"], told["state"]) == (REDIRECT, "access_denied", "<&>")
