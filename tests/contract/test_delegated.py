"""The password and the refresh token grant against the sandbox's Entra, over TLS: what they send, and what each failure means."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from mailroom.credentials import _aadsts_users, password, refresh_token
from mailroom.credentials._delegated import Client
from mailroom.credentials.password import REST_SECONDS, Password
from mailroom.credentials.refresh_token import RefreshToken
from mailroom.errors import AccountFault, AuthorityDown, AuthorityRefused, VaultDown, VaultRefused
from mailroom.model.account import Cloud, Profile
from mailroom.ports import Credential, Rotates
from sandbox.directory import GRAPH, App
from sandbox.graph import access
from sandbox.users import Session, User
from tests.contract.sandbox_town import Office, office
from tests.fakes import FakeParts, FakeVault

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:.*deprecated for public client flows:DeprecationWarning"),  # the grant is what it is
]

SCOPE = f"{GRAPH}/Mail.Send {GRAPH}/Mail.Read"
MSAL_LOGS = "msal", "httpx", "httpcore"


@dataclass
class RememberingVault(FakeVault):
    """As the REST vault: what was read once is remembered until it is asked for afresh."""

    kept: dict[str, str] = field(default_factory=dict)

    async def secret(self, name: str, *, fresh: bool = False) -> str:
        if fresh or name not in self.kept:
            self.kept[name] = await super().secret(name, fresh=fresh)
        return self.kept[name]


@dataclass
class Place:
    """One user, one app, one vault. What is asked for by password or refresh token goes through the whole of both ends."""

    office: Office
    app: App
    user: User
    caplog: pytest.LogCaptureFixture
    vault: RememberingVault = field(default_factory=RememberingVault)
    time: float = field(default_factory=time.time)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.vault.secrets = {"dora-password": self.user.password, "dora-token": self.new_refresh_token()}

    def new_refresh_token(self) -> str:
        directory = self.office.directory
        return directory.delegations.begin(Session(self.user, self.app.client_id, not self.app.public, directory.now()))

    def profile(self, **changes: Any) -> Profile:
        cloud = Cloud(self.office.directory.authority, "https://graph/v1.0", f"{GRAPH}/.default", "vault", "storage")
        options = (("password_secret", "dora-password"), ("refresh_token_secret", "dora-token"), ("username", self.user.address))
        good = Profile("dora", "password", self.office.directory.tenant, self.app.client_id, cloud, options=options)
        return msgspec.structs.replace(good, **changes)

    def client(self, timeout: float = 10.0, **changes: Any) -> Client:
        parts = FakeParts(vault=self.vault)
        return Client(self.profile(**changes), parts, timeout=timeout, now=lambda: self.time, tls=self.office.ca.context)

    def password(self, timeout: float = 10.0, **changes: Any) -> Password:
        return Password(self.client(timeout, **changes))

    def refresh_token(self, timeout: float = 10.0, **changes: Any) -> RefreshToken:
        return RefreshToken(self.client(timeout, **changes))

    async def refused(self, credential: Credential, scope: str = SCOPE) -> AccountFault:
        with pytest.raises(AccountFault) as raised:
            await credential.ask(scope)
        told, cause = "", raised.value
        while cause is not None:
            told, cause = f"{told} {cause} {cause!r}", cause.__cause__  # type: ignore[assignment]
        self.told.append(told)
        return raised.value


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def entra(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Office]:
    async with office(tmp_path_factory.mktemp("office")) as served:
        yield served


@pytest_asyncio.fixture(loop_scope="module")
async def place(entra: Office, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Place]:
    """Afterwards no secret of the place stands in any log, at any level, nor in what an error said."""
    entra.faults.clear()
    entra.directory.now = time.time
    for name in MSAL_LOGS:
        caplog.set_level(logging.DEBUG, name)
    app = entra.directory.register(App("tool", public=True, delegated={GRAPH: {"Mail.Send", "Mail.Read"}}))
    made = Place(entra, app, entra.directory.add_user(User("dora@mailroom.example")), caplog)
    yield made
    entra.faults.clear()
    secret = {*made.vault.secrets.values(), made.user.password, *app.secrets, *entra.directory.delegations.refresh_tokens}
    written = [*made.told, *(record.getMessage() for record in caplog.get_records("call"))]
    assert written
    assert not [text for text in written for value in secret if value in text]


GRANTS: dict[str, Callable[..., Credential]] = {"password": Place.password, "refresh_token": Place.refresh_token}
both = pytest.mark.parametrize("grant", GRANTS)


@both
async def test_a_user_gets_a_token(place: Place, grant: str) -> None:
    """For the scope, good from now for as long as the authority said; Graph takes it for that user's mailbox and no other."""
    token = await GRANTS[grant](place).ask(SCOPE)
    claims = access.check(place.office.directory, f"Bearer {token.value}")
    assert (claims["upn"], claims["appidacr"]) == (place.user.address, "0")
    assert access.roles(place.office.directory, claims, place.user.address) == {"Mail.Send", "Mail.Read"}
    assert not access.roles(place.office.directory, claims, "anna@mailroom.example")
    assert (token.lifetime, token.expires_at) == (3599.0, place.time + 3599)


@both
async def test_a_confidential_client_proves_itself(place: Place, grant: str) -> None:
    """With the secret that the vault has by now, should the remembered one have ended."""
    place.app.public = False
    place.vault.secrets["tool"] = place.app.add_secret(time.time() + 60)
    place.vault.secrets["dora-token"] = place.new_refresh_token()
    credential = GRANTS[grant](place, secret="tool")
    assert place.office.directory.check((await credential.ask(SCOPE)).value, [GRAPH])["appidacr"] == "1"
    place.app.secrets[place.app.secret] = time.time() - 1
    place.vault.secrets["tool"] = place.app.add_secret(time.time() + 60)
    assert await credential.ask(SCOPE)


@both
async def test_a_client_that_is_wrong_about_itself(place: Place, grant: str) -> None:
    """A public client with a secret, a confidential one without, an unknown one and an unknown tenant: the application's own errors."""
    place.vault.secrets["tool"] = "never-taken"
    assert (await place.refused(GRANTS[grant](place, secret="tool"))).code == "aadsts_700025"
    place.app.public = False
    missing = await place.refused(GRANTS[grant](place))
    assert (missing.code, "Allow public client flows" in missing.next_step) == ("aadsts_7000218", True)
    assert (await place.refused(GRANTS[grant](place, client_id="99999999-0000-0000-0000-000000000000"))).code == "aadsts_700016"
    assert (await place.refused(GRANTS[grant](place, tenant="99999999-0000-0000-0000-000000000000"))).code == "aadsts_90002"


@both
async def test_a_confidential_clients_own_secret(place: Place, grant: str) -> None:
    """Wrong, or ended with no new one: it is the application's, so nobody has to sign in again and no password is doubted."""
    place.app.public = False
    place.vault.secrets["tool"] = "wrong-of-the-tool"
    place.vault.secrets["dora-token"] = place.new_refresh_token()
    wrong = await place.refused(GRANTS[grant](place, secret="tool"))
    place.vault.secrets["tool"] = place.app.add_secret(time.time() - 1)
    ended = await place.refused(GRANTS[grant](place, secret="tool"))
    assert [(one.code, one.retryable) for one in (wrong, ended)] == [("aadsts_7000215", False), ("aadsts_7000222", False)]
    assert "not its id" in wrong.next_step
    assert "make a new one" in ended.next_step
    assert place.user.wrong_passwords == 0


@both
@pytest.mark.parametrize(
    ("scope", "code"),
    [
        (f"{GRAPH}/Mail.Juggle", "aadsts_650053"),
        ("https://graph.microsoft.us/Mail.Send", "aadsts_500011"),
        (f"{GRAPH}/Mail.Send https://vault.azure.net/user_impersonation", "aadsts_28000"),
    ],
)
async def test_a_wrong_scope(place: Place, grant: str, scope: str, code: str) -> None:
    """It is the request's fault, and nobody is told to sign in again."""
    error = await place.refused(GRANTS[grant](place), scope)
    assert error.code == code
    assert "mailroom login" not in error.next_step


PASSWORD_REFUSALS = {
    50053: "wait",
    50055: "has expired",
    50057: "disabled",
    50074: "multi-factor",
    50076: "multi-factor",
    50079: "multi-factor",
    53003: "Conditional Access",
    530035: "security defaults",
}


@pytest.mark.parametrize("number", PASSWORD_REFUSALS)
async def test_what_stops_a_password(place: Place, number: int) -> None:
    """Each with its number, the authority's sentence without its trace, and what to do about it."""
    place.user.refusal = number
    error = await place.refused(place.password())
    assert isinstance(error, AuthorityRefused)
    assert (error.code, error.retryable) == (f"aadsts_{number}", False)
    assert error.detail.startswith(f"AADSTS{number}: ")
    assert "Trace ID" not in error.detail
    assert error.trace_id
    assert PASSWORD_REFUSALS[number] in error.next_step


async def test_no_consent_and_no_such_user(place: Place) -> None:
    """An administrator consents to delegated permissions, not to application permissions; and a name can be wrong."""
    place.app.delegated = {}
    error = await place.refused(place.password())
    assert (error.code, "delegated permissions" in error.next_step) == ("aadsts_65001", True)
    options = (("password_secret", "dora-password"), ("username", "nobody@mailroom.example"))
    error = await place.refused(place.password(options=options))
    assert (error.code, "username" in error.next_step) == ("aadsts_50034", True)


async def test_a_wrong_password_is_not_sent_twice(place: Place) -> None:
    """Until the vault has another one, or a quarter of an hour later: ten in a row would lock the user out."""
    place.vault.secrets["dora-password"] = "not-the-password"
    credential = place.password()
    for _ in range(3):
        error = await place.refused(credential)
        assert (error.code, "password_secret" in error.next_step) == ("aadsts_50126", True)
    assert place.user.wrong_passwords == 1
    place.time += REST_SECONDS
    await place.refused(credential)
    assert place.user.wrong_passwords == 2
    place.vault.secrets["dora-password"] = place.user.password
    assert await credential.ask(SCOPE)


async def test_a_changed_password_costs_no_failure(place: Place) -> None:
    """The remembered one is refused, the vault has a new one: the same question gets its token."""
    credential = place.password()
    await credential.ask(SCOPE)
    place.user.password = place.vault.secrets["dora-password"] = "another-long-password"
    assert await credential.ask(SCOPE)


async def test_a_federated_users_password_goes_to_entra_alone(place: Place) -> None:
    """Not to the server that the realm names, where msal would send it; and what to do is about federation."""
    place.user.federated = True
    error = await place.refused(place.password())
    assert (error.code, "federated" in error.next_step) == ("aadsts_50126", True)
    hosts = {str(record.args) for record in place.caplog.records if record.name == "httpx"}
    assert not [text for text in hosts if "adfs" in text]


@pytest.mark.parametrize("value", ["", " secret", "secret\n"])
async def test_a_password_that_cannot_be(place: Place, value: str) -> None:
    """What was set with a line break would be refused as wrong and count towards the lock: it is not sent."""
    place.vault.secrets["dora-password"] = value
    error = await place.refused(place.password())
    assert (type(error), error.code, place.user.wrong_passwords) == (VaultRefused, "password_unusable", 0)
    place.vault.secrets["dora-password"] = "for-the-canary"


async def test_a_password_leaves_no_refresh_token(place: Place) -> None:
    """Each question sends the password; msal's own cache ends with it."""
    credential = place.password()
    tokens = {(await credential.ask(SCOPE)).value for _ in range(2)}
    assert len(tokens) == 2


def ended(place: Place) -> None:
    place.office.directory.now = lambda: time.time() + 91 * 86_400


def revoked(place: Place) -> None:
    place.user.revoked_at = place.office.directory.now() + 1


def without_consent(place: Place) -> None:
    place.app.delegated = {}


def mangled(place: Place) -> None:
    place.vault.secrets["dora-token"] = "nonsense-in-the-vault"


def second_factor(place: Place) -> None:
    place.user.refusal = 50076


REFRESH_REFUSALS = {
    "aadsts_700082": ended,
    "aadsts_50173": revoked,
    "aadsts_65001": without_consent,
    "aadsts_70000": mangled,
    "aadsts_50076": second_factor,
}


@pytest.mark.parametrize("code", REFRESH_REFUSALS)
async def test_a_refresh_token_that_is_over(place: Place, code: str) -> None:
    """Somebody has to sign in once more, and which command does that is said."""
    REFRESH_REFUSALS[code](place)
    error = await place.refused(place.refresh_token())
    assert isinstance(error, AuthorityRefused)
    assert error.code == code
    assert "Run `mailroom login ACCOUNT`, for an account of [auth.dora]" in error.next_step


async def test_a_login_cannot_help_everything(place: Place) -> None:
    """A disabled user and a policy are an administrator's to settle."""
    for number in (50057, 53003):
        place.user.refusal = number
        assert "administrator" in (await place.refused(place.refresh_token())).next_step


async def test_nobody_has_signed_in_yet(place: Place) -> None:
    """No such secret in the vault means the same; other troubles of the vault are its own."""
    del place.vault.secrets["dora-token"]
    error = await place.refused(place.refresh_token())
    assert (type(error), error.code, "mailroom login" in error.next_step) == (VaultRefused, "vault_secret_missing", True)
    place.vault.fault = VaultDown("vault_down", "Down.")
    assert await place.refused(place.refresh_token()) is place.vault.fault


async def test_a_new_login_is_seen_at_once(place: Place) -> None:
    """The remembered refresh token is refused, the vault has a new one: the same question gets its token."""
    credential = place.refresh_token()
    await credential.ask(SCOPE)
    revoked(place)
    place.office.directory.now = lambda: time.time() + 10
    place.vault.secrets["dora-token"] = place.new_refresh_token()
    assert await credential.ask(SCOPE)


async def test_who_wants_a_token_writes_nothing(place: Place) -> None:
    """The rotated refresh token that comes along is not stored: the vault's is not revoked by its use, and the timer is its only writer."""
    before = dict(place.vault.secrets)
    credential = place.refresh_token()
    for _ in range(2):
        await credential.ask(SCOPE)
    assert place.vault.secrets == before


async def test_a_rotated_refresh_token(place: Place) -> None:
    """Another one for the vault's newest, good for another 90 days; who asks for it stores it."""
    credential = place.refresh_token()
    assert isinstance(credential, Rotates)
    assert not isinstance(place.password(), Rotates)
    await credential.ask(SCOPE)
    place.vault.secrets["dora-token"] = place.new_refresh_token()
    rotated = await credential.rotated(SCOPE)
    assert rotated not in place.vault.secrets.values()
    place.office.directory.now = lambda: time.time() + 80 * 86_400
    place.vault.secrets["dora-token"] = rotated
    assert await place.refresh_token().ask(SCOPE)


FAILURES: list[tuple[dict[str, Any], str, float | None]] = [
    ({"answer": "429", "retry_after": 17}, "authority_throttled", 17.0),
    ({"answer": "503", "retry_after": 3}, "authority_busy", 3.0),
    ({"answer": "html"}, "authority_gateway", None),
    ({"answer": "garbage"}, "authority_unreadable", None),
    ({"answer": "cut"}, "authority_down", None),
    ({"answer": "hang"}, "authority_timeout", None),
]


@pytest.mark.parametrize(
    ("grant", "path"),
    [
        ("password", "openid-configuration"),
        ("password", "userrealm"),
        ("password", "token"),
        ("refresh_token", "openid-configuration"),
        ("refresh_token", "token"),
    ],
)
@pytest.mark.parametrize(("fault", "code", "wait"), FAILURES)
async def test_an_authority_that_fails(place: Place, grant: str, path: str, fault: dict[str, Any], code: str, wait: float | None) -> None:
    """The same error wherever it fails, after one request and not several; nothing is taken for a refusal; then it works."""
    credential = GRANTS[grant](place, 0.3 if fault["answer"] == "hang" else 10.0)
    struck = place.office.faults.add({"service": "entra", "path": path, **fault})
    error = await place.refused(credential)
    assert (type(error), error.code, error.retry_after, error.retryable) == (AuthorityDown, code, wait, True)
    assert struck.hits == 1
    place.office.faults.clear()
    assert await credential.ask(SCOPE)


@both
@pytest.mark.parametrize("off", [-300.0, 300.0])
async def test_clocks_five_minutes_apart(place: Place, grant: str, off: float) -> None:
    """Neither way a sign-in is refused, by Entra or by us: the ID token's times are nobody's business here."""
    place.office.directory.now = lambda: time.time() + off
    place.vault.secrets["dora-token"] = place.new_refresh_token()
    token = await GRANTS[grant](place).ask(SCOPE)
    assert place.office.directory.check(token.value, [GRAPH])["upn"] == place.user.address


async def test_profiles_that_make_no_sense() -> None:
    """What is wrong with a profile's keys together; a public client needs no proof, and names none by halves."""
    cloud = Cloud("https://login", "https://graph/v1.0", "scope", "vault", "storage")
    good = Profile("dora", "password", "t", "c", cloud, options=(("refresh_token_secret", "t"),))
    assert not [*password.mistakes(good), *refresh_token.mistakes(good)]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"secret": "a", "certificate": "b"}, "certificate"),
        ({"algorithm": "RS256"}, "algorithm"),
        ({"options": (("key", "vault"),)}, "key"),
    ]
    for changes, key in wrong:
        assert key in {mistake[0] for mistake in password.mistakes(msgspec.structs.replace(good, **changes))}
    [(key, _, _)] = refresh_token.mistakes(msgspec.structs.replace(good, secret="t"))
    assert key == "refresh_token_secret"


async def test_built_as_wiring_builds_them() -> None:
    """Nothing is read and nobody asked before the first question."""
    cloud = Cloud("https://login", "https://graph/v1.0", "scope", "vault", "storage")
    options = (("password_secret", "p"), ("refresh_token_secret", "t"), ("username", "u@x.example"))
    profile, parts = Profile("dora", "password", "t", "c", cloud, options=options), FakeParts()
    assert isinstance(password.build(profile, parts), Password)
    assert isinstance(refresh_token.build(profile, parts), RefreshToken)


async def test_every_step_is_advice() -> None:
    """Whatever number comes, what is said ends as a sentence and names no secret."""
    steps = [*_aadsts_users.PASSWORD_STEPS.values(), *_aadsts_users.REFRESH_STEPS.values(), *_aadsts_users.LOGIN_STEPS.values()]
    assert all(step.endswith(".") for step in steps)
