"""The numbers by which Entra ID says no, those that people meet: the sandbox is brought to say them, and each has its next step."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import httpx
import pytest
import pytest_asyncio

from mailroom.credentials import _aadsts
from mailroom.credentials import _aadsts_users as users
from mailroom.credentials._authority import failure
from mailroom.errors import AuthorityDown, AuthorityRefused
from sandbox.directory import GRAPH, TOKEN_EXCHANGE, App
from sandbox.entra.aadsts import REFUSALS
from sandbox.users import Code, Session, User
from tests.contract.sandbox_town import Certificate, Office, assertion, certificate, office

pytestmark = pytest.mark.asyncio(loop_scope="module")

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SCOPE = f"{GRAPH}/.default"
# learn.microsoft.com/entra/identity-platform/reference-error-codes, those that mail without people at it comes across
APPLICATIONS = {7000215, 7000222, 700027, 700025, 7000218, 700030, 700024, 700021, 700023, 50012, 50013, 50027, 500133}
FEDERATION = {700211, 700212, 700213, 700229}
REQUESTS = {700016, 7000112, 90002, 500011, 650057, 70011, 1002012, 700022, 50196}
PEOPLE = {65001, 50034, 50126, 50053, 50055, 50057, 50074, 50076, 50079, 53003, 530035, 9001023, 28000, 650053}
REFRESH = {70000, 70008, 700082, 50173}
PASSING = {90033: "authority_busy", 90055: "authority_throttled"}
MET = APPLICATIONS | FEDERATION | REQUESTS | PEOPLE | REFRESH | PASSING.keys()
GENERIC = {_aadsts.next_step(None, "invalid_client"), _aadsts.next_step(None, "invalid_grant"), ""}

Answer = Awaitable[httpx.Response]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def entra(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Office]:
    async with office(tmp_path_factory.mktemp("office")) as served:
        yield served


def by_app(entra: Office, app: App | None = None, tenant: str = "", **form: str) -> Answer:
    """With the application's secret, unless told otherwise."""
    app = app or entra.directory.app("graph")
    secret = {} if "client_assertion" in form else {"client_secret": next(iter(app.secrets), "")}
    return entra.ask(tenant, **{"client_id": app.client_id, **secret, **form})


def by_assertion(entra: Office, key: Certificate | None = None, *, registered: bool = True, **changes: Any) -> Answer:
    key, app = key or certificate(), entra.directory.app("graph")
    if registered:
        entra.directory.register_certificate(app.client_id, key.der)
    signed = assertion(key, app.client_id, f"{entra.authority}/oauth2/v2.0/token", **changes)
    return by_app(entra, client_assertion=signed, client_assertion_type=JWT_BEARER)


def by_identity(entra: Office, change: Callable[[App, App], object]) -> Answer:
    """With a managed identity's token, which the application trusts but for one thing."""
    directory = entra.directory
    app, identity = directory.register(App("trusting")), directory.app("mailroom-identity")
    directory.trust(app, identity)
    change(app, identity)
    token = directory.issue(identity.client_id, TOKEN_EXCHANGE)
    return by_app(entra, app, client_assertion=token, client_assertion_type=JWT_BEARER)


def trust(**of: str) -> Callable[[App, App], object]:
    return lambda app, identity: app.federated.__setitem__(0, dataclasses.replace(app.federated[0], **of))


def forged(entra: Office) -> Answer:
    """An identity's token with another signature."""
    directory = entra.directory
    app = directory.register(App("trusting"))
    directory.trust(app, directory.app("mailroom-identity"))
    head, claims, signature = directory.issue(directory.app("mailroom-identity").client_id, TOKEN_EXCHANGE).split(".")
    token = f"{head}.{claims}.{signature[::-1]}"
    return by_app(entra, app, client_assertion=token, client_assertion_type=JWT_BEARER)


def by_person(entra: Office, refusal: int | None = None, *, delegated: bool = True, tenant: str = "", **form: str) -> Answer:
    """A user's password, sent by a public client."""
    user = entra.directory.add_user(User(f"{refusal or 'user'}@mailroom.example", refusal=refusal))
    app = entra.directory.register(App("tool", public=True, delegated={GRAPH: {"Mail.Send"}} if delegated else {}))
    fields = {"client_id": app.client_id, "username": user.address, "password": user.password, "scope": f"{GRAPH}/Mail.Send"}
    return entra.ask(tenant, **fields | {"grant_type": "password"} | form)


def by_refresh_token(entra: Office, *, age: float = 0.0, revoked: bool = False, token: str = "") -> Answer:
    directory = entra.directory
    user = directory.add_user(User("dora@mailroom.example", revoked_at=directory.now() + 1 if revoked else 0.0))
    app = directory.register(App("tool", public=True, delegated={GRAPH: {"Mail.Send"}}))
    token = token or directory.delegations.begin(Session(user, app.client_id, False, directory.now() - age))
    return entra.ask(client_id=app.client_id, grant_type="refresh_token", refresh_token=token, scope=f"{GRAPH}/Mail.Send")


def by_code(entra: Office) -> Answer:
    """An authorization code that is over."""
    app = entra.directory.register(App("tool", public=True, redirect_uris={"http://localhost"}))
    code = Code(
        app.client_id,
        SCOPE,
        entra.directory.now() - 1,
        entra.directory.add_user(User("dora@mailroom.example")),
        redirect_uri="http://localhost",
    )
    entra.directory.delegations.codes["over"] = code
    return entra.ask(client_id=app.client_id, grant_type="authorization_code", code="over", redirect_uri="http://localhost")


def busy(entra: Office, status: str) -> Answer:
    entra.faults.add({"service": "entra", "path": "token", "answer": status, "times": 1})
    return by_app(entra)


def ended_secret(entra: Office) -> App:
    app = entra.directory.register(App("ended"))
    app.add_secret(time.time() - 1)
    return app


PROVOKED: Mapping[int, Callable[[Office], Answer]] = {
    7000215: lambda entra: by_app(entra, client_secret="wrong"),
    7000222: lambda entra: by_app(entra, ended_secret(entra)),
    7000218: lambda entra: by_app(entra, client_secret=""),
    700025: lambda entra: by_person(entra, client_secret="uncalled for"),
    700027: lambda entra: by_assertion(entra, registered=False),
    700024: lambda entra: by_assertion(entra, nbf=None, exp=time.time() - 400),
    700021: lambda entra: by_assertion(entra, sub="someone else"),
    700023: lambda entra: by_assertion(entra, aud="https://elsewhere.example"),
    50013: forged,
    50027: lambda entra: by_assertion(entra, exp=None),
    700211: lambda entra: by_identity(entra, lambda app, _: app.federated.clear()),
    700212: lambda entra: by_identity(entra, trust(audience="api://other")),
    700213: lambda entra: by_identity(entra, trust(subject="other")),
    700016: lambda entra: by_app(entra, client_id="99999999-0000-0000-0000-000000000000"),
    7000112: lambda entra: by_app(entra, entra.directory.register(App("off", disabled=True)), client_secret="any"),
    90002: lambda entra: by_app(entra, tenant="nowhere.example"),
    500011: lambda entra: by_app(entra, scope="https://graph.microsoft.us/.default"),
    70011: lambda entra: by_app(entra, scope=f"{SCOPE} Mail.Send"),
    1002012: lambda entra: by_app(entra, scope=f"{GRAPH}/Mail.Send"),
    700022: lambda entra: by_app(entra, scope=f"{SCOPE} https://vault.azure.net/.default"),
    65001: lambda entra: by_person(entra, delegated=False),
    50034: lambda entra: by_person(entra, username="nobody@mailroom.example"),
    50126: lambda entra: by_person(entra, password="wrong"),
    9001023: lambda entra: by_person(entra, tenant="common"),
    28000: lambda entra: by_person(entra, scope=f"{GRAPH}/Mail.Send https://vault.azure.net/user_impersonation"),
    650053: lambda entra: by_person(entra, scope=f"{GRAPH}/Mail.Juggle"),
    **{
        number: lambda entra, number=number: by_person(entra, number)  # type: ignore[misc]  # bound for each
        for number in (50053, 50055, 50057, 50074, 50076, 50079, 53003, 530035)
    },
    70000: lambda entra: by_refresh_token(entra, token="nonsense"),
    70008: by_code,
    700082: lambda entra: by_refresh_token(entra, age=91 * 86_400.0),
    50173: lambda entra: by_refresh_token(entra, revoked=True),
    90055: lambda entra: busy(entra, "429"),
    90033: lambda entra: busy(entra, "503"),
}


def steps(number: int, error: str) -> set[str]:
    """What the grants that meet it say: applications, passwords, refresh tokens, `mailroom login`."""
    renewed = users.login("PROFILE") if number in REFRESH else ""
    own = {table[number] for table in (users.PASSWORD_STEPS, users.REFRESH_STEPS, users.LOGIN_STEPS) if number in table}
    return (own | {_aadsts.next_step(number, error), renewed}) - GENERIC


@pytest.mark.parametrize("number", PROVOKED)
async def test_entra_says_it_and_we_say_what_to_do(entra: Office, number: int) -> None:
    """Over the wire from what provokes it: our code is its number, and the next step is about this very trouble."""
    answer = await PROVOKED[number](entra)
    told = failure(answer, time.time())
    assert told is not None
    assert answer.json()["error_codes"] == [number]
    if number in PASSING:
        assert (type(told), told.retryable, told.code) == (AuthorityDown, True, PASSING[number])
        return
    assert isinstance(told, AuthorityRefused)
    assert (told.code, told.retryable) == (f"aadsts_{number}", False)
    assert (told.trace_id, told.correlation_id) == (answer.json()["trace_id"], answer.json()["correlation_id"])
    assert steps(number, told.error)


def rest() -> set[int]:
    return MET - PROVOKED.keys()


async def test_what_the_sandbox_knows_is_provoked() -> None:
    """And nothing else is: the rest are numbers that it has no cause for."""
    assert not rest() & REFUSALS.keys()
    assert PROVOKED.keys() <= MET


@pytest.mark.parametrize("number", sorted(rest()))
async def test_the_rest_has_its_step_too(number: int) -> None:
    """For an answer with this number and the error that goes with it."""
    assert steps(number, "invalid_client")


async def test_there_are_enough() -> None:
    """Clock skew and federation among them."""
    assert len(MET) >= 25
    assert {700024, *FEDERATION} <= MET
