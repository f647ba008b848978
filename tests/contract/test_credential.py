"""The client credentials grant against the sandbox's Entra, over TLS: what it sends, and what each failure means."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import hashes

from mailroom.credentials import client_credentials
from mailroom.credentials._application import Assertion
from mailroom.credentials._application import credential as msal_credential
from mailroom.credentials._authority import failure
from mailroom.credentials._sources import source_of, versions_of
from mailroom.credentials._versions import KEEP_SECONDS
from mailroom.credentials.client_credentials import ClientCredentials
from mailroom.errors import AccountFault, AuthorityDown, AuthorityRefused, IdentityDown, VaultDown, VaultRefused
from mailroom.model.account import Cloud, Profile
from mailroom.model.certificate import Certificate, PublicCertificate
from mailroom.model.token import Token
from mailroom.ports import Credential
from sandbox import entra
from sandbox.ca import Ca
from sandbox.directory import GRAPH, TOKEN_EXCHANGE, App, Directory
from sandbox.faults import Faults
from sandbox.serve import serve
from sandbox.town import town
from tests.contract import sandbox_town
from tests.fakes import FakeParts, FakeVault

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCOPE = f"{GRAPH}/.default"
KINDS = ("secret", "certificate", "vault", "federated")
SIGNING = ("certificate", "vault")


@dataclass
class Vault(FakeVault):
    """Secrets as the REST vault keeps them: what was read once is remembered until it is asked for afresh. And the app's identity."""

    keys: dict[str, list[Certificate]] = field(default_factory=dict)  # by name, the newest last
    read: list[str] = field(default_factory=list)
    exchange: Callable[[], str] = lambda: "no identity"
    _kept: dict[str, str] = field(default_factory=dict)

    async def secret(self, name: str, *, fresh: bool = False) -> str:
        if fresh or name not in self._kept:
            self.read.append(name)
            self._kept[name] = await super().secret(name, fresh=fresh)
        return self._kept[name]

    async def certificate(self, name: str, version: str = "") -> Certificate:
        self.read.append(name)
        await self._begin()
        return next(one for one in reversed(self.keys[name]) if version in ("", one.version))

    async def public_certificate(self, name: str, version: str = "") -> PublicCertificate:
        self.read.append(name)
        return await super().public_certificate(name, version)

    async def token(self, resource: str, *, fresh: bool = False) -> Token:
        await self._begin()
        assert resource == TOKEN_EXCHANGE
        return Token(self.exchange(), time.time() + 3600)


@dataclass
class Place:
    directory: Directory
    faults: Faults
    ca: Ca
    vault: Vault = field(default_factory=Vault)
    time: float = field(default_factory=time.time)

    @property
    def app(self) -> App:
        return self.directory.app("graph")

    def profile(self, **changes: Any) -> Profile:
        cloud = Cloud(self.directory.authority, "https://graph/v1.0", SCOPE, "vault", "storage")
        good = Profile("graph", "client_credentials", self.directory.tenant, self.app.client_id, cloud, secret="graph")
        return msgspec.structs.replace(good, **changes)

    def certified(self, **changes: Any) -> Profile:
        return self.profile(secret=None, certificate="graph", **changes)

    def by(self, kind: str, **changes: Any) -> Profile:
        """A profile of either kind, with what it signs in with in the vault and registered."""
        if kind == "secret":
            return self.profile(**changes)
        if kind == "federated":
            return self.profile(secret=None, options=(("federated", "managed_identity"),), **changes)
        self.new_certificate()
        return self.certified(**{"options": (("key", "vault"),) if kind == "vault" else (), **changes})

    def credential(self, profile: Profile | None = None, timeout: float = 10.0) -> ClientCredentials:
        profile = profile or self.profile()
        source = source_of(profile, self.parts, lambda: self.time)
        return ClientCredentials(profile, source, timeout=timeout, now=lambda: self.time, tls=self.ca.context)

    @property
    def parts(self) -> FakeParts:
        return FakeParts(vault=self.vault, certificates=self.vault, identity=self.vault)

    def new_certificate(self, *, registered: bool = True) -> Certificate:
        """In the vault, in both of its forms, as the newest version."""
        made = sandbox_town.certificate()
        self.vault.certificates.setdefault("graph", []).append((made.certificate, made.key))
        if registered:
            self.directory.register_certificate(self.app.client_id, made.der)
        sha256 = made.certificate.fingerprint(hashes.SHA256()).hex()
        now = datetime.now(UTC)
        version = f"{made.certificate.serial_number:032x}"[:32]
        found = Certificate(made.key_pem.encode(), made.pem.encode(), made.thumbprint, sha256, now, now + timedelta(days=9), version)
        self.vault.keys.setdefault("graph", []).append(found)
        return found

    async def refused(self, credential: Credential) -> AccountFault:
        with pytest.raises(AccountFault) as raised:
            await credential.ask(SCOPE)
        told = f"{raised.value} {raised.value.__cause__}"
        assert not any(secret in told for secret in [*self.vault.secrets.values(), *self.app.secrets, "BEGIN", "eyJ"])
        return raised.value


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town_at_work(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    directory, faults, ca = town(), Faults(), Ca.create(tmp_path_factory.mktemp("ca"))
    served = await serve(entra.create(directory, faults), ca)
    directory.authority = served.url
    try:
        yield Place(directory, faults, ca)
    finally:
        faults.clear()
        await served.stop()


@pytest.fixture
def place(town_at_work: Place) -> Place:
    town_at_work.faults.clear()
    town_at_work.directory.now = time.time
    fresh = Place(town_at_work.directory, town_at_work.faults, town_at_work.ca)
    fresh.vault.secrets["graph"] = fresh.app.secret
    identity = fresh.directory.app("mailroom-identity")
    fresh.vault.exchange = lambda: fresh.directory.issue(identity.client_id, TOKEN_EXCHANGE)
    fresh.app.federated.clear()
    fresh.directory.trust(fresh.app, identity)
    return fresh


async def test_a_secret_gets_a_token(place: Place) -> None:
    """A token for the scope, good from now for as long as the authority said."""
    token = await place.credential().ask(SCOPE)
    assert place.directory.check(token.value, [GRAPH])["appidacr"] == "1"
    assert (token.lifetime, token.expires_at) == (3599.0, place.time + 3599)


@pytest.mark.parametrize("kind", SIGNING)
@pytest.mark.parametrize("algorithm", ["PS256", "RS256"])
async def test_a_certificate_gets_a_token(place: Place, algorithm: str, kind: str) -> None:
    """private_key_jwt, signed here or in the vault: each question has a new one, with the documented header and claims, bounded in time."""
    profile = place.by(kind, algorithm=algorithm)
    credential = place.credential(profile)
    token = await credential.ask(SCOPE)
    assert place.directory.check(token.value, [GRAPH])["appidacr"] == "2"
    assert await credential.ask(SCOPE) != token
    versions = versions_of(profile, place.parts, lambda: place.time)
    proofs = [(await versions.proof(await versions.newest())).value.split(".") for _ in range(2)]
    header, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in proofs[0][:2])
    thumbprint = place.vault.keys["graph"][-1]
    named = {"x5t": thumbprint.thumbprint_sha1} if algorithm == "RS256" else {"x5t#S256": thumbprint.thumbprint_sha256}
    encoded = {name: sandbox_town.encode(bytes.fromhex(value)) for name, value in named.items()}
    assert header == {"alg": algorithm, "typ": "JWT", **encoded}
    endpoint = f"{place.directory.authority}/{place.directory.tenant}/oauth2/v2.0/token"
    assert (claims["iss"], claims["sub"], claims["aud"]) == (place.app.client_id, place.app.client_id, endpoint)
    assert (claims["nbf"], claims["iat"], claims["exp"]) == (int(place.time - 300), int(place.time), int(place.time + 300))
    assert claims["jti"] != json.loads(base64.urlsafe_b64decode(proofs[1][1] + "=="))["jti"]
    assert "=" not in ".".join(proofs[0])


async def test_an_identitys_token_gets_a_token(place: Place) -> None:
    """With no secret anywhere: the application trusts the identity, and its roles are the application's."""
    place.vault.secrets.clear()
    token = await place.credential(place.by("federated")).ask(SCOPE)
    claims = place.directory.check(token.value, [GRAPH])
    assert (claims["appid"], claims["appidacr"]) == (place.app.client_id, "2")
    assert "Mail.Send" in claims["roles"]
    assert not place.vault.read


async def test_what_msal_is_given() -> None:
    """A secret, or whom to ask for what was signed; a log that shows it shows nothing."""
    assert msal_credential("secret", str) == "secret"
    assert msal_credential(Assertion("signed"), str) == {"client_assertion": str}
    assert "signed" not in repr(Assertion("signed"))


async def test_each_question_gets_a_new_token(place: Place) -> None:
    """What msal remembers is no answer: the keyring asks because it wants another one."""
    credential = place.credential()
    tokens = await asyncio.gather(*(credential.ask(SCOPE) for _ in range(3)))
    assert len({token.value for token in tokens}) == 3


async def test_built_as_wiring_builds_it(place: Place) -> None:
    """Nothing is read and nobody asked before the first question."""
    for kind in KINDS:
        built: Credential = client_credentials.build(place.by(kind), place.parts)
        assert isinstance(built, ClientCredentials)
    assert not place.vault.read


async def test_a_wrong_secret_is_refused_and_a_corrected_one_works(place: Place) -> None:
    """The refusal has its number and advice, no trace in its text; a secret that is set meanwhile is used at the next question."""
    place.vault.secrets["graph"] = "wrong"
    credential = place.credential()
    error = await place.refused(credential)
    assert isinstance(error, AuthorityRefused)
    assert (error.code, error.error, error.status) == ("aadsts_7000215", "invalid_client", 502)
    assert error.detail.startswith("AADSTS7000215: Invalid client secret provided.")
    assert "Trace ID" not in error.detail
    assert error.trace_id
    assert "not its id" in error.next_step
    place.vault.secrets["graph"] = place.app.secret
    assert await credential.ask(SCOPE)


async def test_a_rotated_secret_costs_no_failure(place: Place) -> None:
    """The remembered secret has ended, the vault has a new one: the same question gets its token."""
    credential = place.credential()
    await credential.ask(SCOPE)
    place.app.secrets[place.app.secret] = place.directory.now() - 1
    place.vault.secrets["graph"] = place.app.add_secret(place.directory.now() + 3600)
    assert await credential.ask(SCOPE)


async def test_an_ended_secret(place: Place) -> None:
    """Its own number, and what to do."""
    place.vault.secrets["graph"] = place.app.add_secret(place.directory.now() - 1)
    error = await place.refused(place.credential())
    del place.app.secrets[place.vault.secrets["graph"]]
    assert error.code == "aadsts_7000222"
    assert "make a new one" in error.next_step


async def test_a_certificate_that_is_not_registered(place: Place) -> None:
    """The authority does not know its thumbprint, wherever its key signs."""
    place.new_certificate(registered=False)
    for options in ((), (("key", "vault"),)):
        error = await place.refused(place.credential(place.certified(options=options)))
        assert error.code == "aadsts_700027"
        assert "Register" in error.next_step


async def test_a_key_that_is_not_the_certificates(place: Place) -> None:
    """A registered thumbprint with another key's signature."""
    key = place.new_certificate(registered=False).key_pem
    place.vault.keys["graph"] = [msgspec.structs.replace(place.new_certificate(), key_pem=key)]
    del place.vault.certificates["graph"][0]
    assert (await place.refused(place.credential(place.certified()))).code == "aadsts_700027"


async def test_a_certificate_that_cannot_sign(place: Place) -> None:
    """What is no key is the vault's fault, not the authority's."""
    place.vault.keys["graph"] = [msgspec.structs.replace(place.new_certificate(), key_pem=b"no key", certificate_pem=b"none")]
    error = await place.refused(place.credential(place.certified()))
    assert isinstance(error, VaultRefused)
    assert error.code == "certificate_unusable"


@pytest.mark.parametrize("kind", SIGNING)
async def test_a_new_certificate_is_seen_within_minutes(place: Place, kind: str) -> None:
    """A version is kept for ten minutes; where the authority refuses it, the vault is asked at once."""
    credential = place.credential(place.by(kind))
    for _ in range(2):
        await credential.ask(SCOPE)
    assert len(place.vault.read) == 1
    place.time += KEEP_SECONDS
    await credential.ask(SCOPE)
    assert len(place.vault.read) == 2
    second = place.new_certificate()
    place.app.certificates[:] = [one for one in place.app.certificates if one.fingerprint(hashes.SHA1()).hex() == second.thumbprint_sha1]
    assert await credential.ask(SCOPE)
    assert len(place.vault.read) == 3


REFUSALS: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown app": ({"client_id": "99999999-0000-0000-0000-000000000000"}, "aadsts_700016", "client_id"),
    "unknown tenant": ({"tenant": "99999999-0000-0000-0000-000000000000"}, "aadsts_90002", "tenant"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", REFUSALS)
async def test_what_the_authority_refuses(place: Place, name: str, kind: str) -> None:
    """Each with its number, the authority's first sentence and where to look, whatever the application signs in with."""
    changes, code, advice = REFUSALS[name]
    error = await place.refused(place.credential(place.by(kind, **changes)))
    assert isinstance(error, AuthorityRefused)
    assert (error.code, error.retryable) == (code, False)
    assert advice in error.next_step


SCOPES = {
    "https://graph.microsoft.us/.default": "aadsts_500011",
    f"{GRAPH}/Mail.Send": "aadsts_1002012",
    "https%3A%2F%2Fgraph.microsoft.com%2F.default": "aadsts_1002012",
    f"{SCOPE} Mail.Send": "aadsts_70011",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scope", SCOPES)
async def test_a_wrong_scope(place: Place, scope: str, kind: str) -> None:
    """Of another cloud, most likely; or none that an application may ask for."""
    asked = place.faults.add({"service": "entra", "path": "/token", "delay": 0})
    with pytest.raises(AuthorityRefused) as raised:
        await place.credential(place.by(kind)).ask(scope)
    assert (raised.value.code, asked.hits) == (SCOPES[scope], 1)
    assert "cloud" in raised.value.next_step


async def test_a_disabled_app(place: Place) -> None:
    """An administrator has to enable it."""
    place.app.disabled = True
    error = await place.refused(place.credential())
    place.app.disabled = False
    assert error.code == "aadsts_7000112"


@pytest.mark.parametrize(("off", "says"), [(-4000, "behind"), (4000, "ahead of")])
@pytest.mark.parametrize("kind", SIGNING)
async def test_a_clock_that_is_wrong_is_explained(place: Place, kind: str, off: int, says: str) -> None:
    """An assertion that has ended when it arrives, or has not begun, says which clock is off, and by how much."""
    profile = place.by(kind)
    place.time += off
    error = await place.refused(place.credential(profile))
    assert error.code == "aadsts_700024"
    assert f"seconds {says} the authority's" in error.detail
    assert "clock" in error.next_step


@pytest.mark.parametrize("off", [-300, 300])
@pytest.mark.parametrize("kind", KINDS)
async def test_clocks_five_minutes_apart(place: Place, kind: str, off: int) -> None:
    """Ours may be that far behind the authority's or ahead of it, and the token is good for as long as its own clock says."""
    profile = place.by(kind)
    place.time += off
    if kind == "federated":  # the platform's token has the platform's times, so there the authority's clock is the other one
        place.directory.now = lambda: time.time() - off
    assert (await place.credential(profile).ask(SCOPE)).expires_at == place.time + 3599


@pytest.mark.parametrize("kind", SIGNING)
@pytest.mark.parametrize("off", [-299, 299])
async def test_our_own_assertions_need_no_mercy(place: Place, off: int, kind: str) -> None:
    """They are in time five minutes either way even for an authority that allows no skew at all."""
    versions = versions_of(place.by(kind), place.parts, lambda: place.time + off)
    claims = json.loads(base64.urlsafe_b64decode((await versions.proof(await versions.newest())).value.split(".")[1] + "=="))
    assert claims["nbf"] <= place.time <= claims["exp"]
    assert claims["exp"] - claims["nbf"] == 600


CLOCKS = [(90.0, "This machine's clock is 90 seconds ahead of the authority's."), (10.0, "clock agrees"), (-90.0, "90 seconds behind")]


@pytest.mark.parametrize(("ahead", "words"), CLOCKS)
async def test_the_clocks_are_compared(ahead: float, words: str) -> None:
    """By the Date of the answer; without one nothing is said of clocks."""
    body = {"error": "invalid_client", "error_description": "AADSTS700024: Not in time.\r\nTrace ID: x", "error_codes": [700024]}
    headers = {"Date": "Tue, 14 Nov 2023 22:13:20 GMT"}
    request = httpx.Request("POST", "https://login.example/token")
    told = failure(httpx.Response(401, json=body, headers=headers, request=request), 1_700_000_000.0 + ahead)
    assert told is not None
    assert words in told.detail
    untold = failure(httpx.Response(401, json=body, request=request), 1_700_000_000.0)
    assert untold is not None
    assert untold.detail == "AADSTS700024: Not in time."


FAILURES: list[tuple[dict[str, Any], str, float | None]] = [
    ({"answer": "429", "retry_after": 17}, "authority_throttled", 17.0),
    ({"answer": "503", "retry_after": 3}, "authority_busy", 3.0),
    ({"answer": "500"}, "authority_busy", None),
    ({"answer": "html"}, "authority_gateway", None),
    ({"answer": "garbage"}, "authority_unreadable", None),
    ({"answer": "cut"}, "authority_down", None),
    ({"answer": "hang"}, "authority_timeout", None),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ["openid-configuration", "token"])
@pytest.mark.parametrize(("fault", "code", "wait"), FAILURES)
async def test_an_authority_that_fails(place: Place, path: str, fault: dict[str, Any], code: str, wait: float | None, kind: str) -> None:
    """Of metadata or tokens: the same error, with the time to wait where it was told, after one request and not several; then it works."""
    credential = place.credential(place.by(kind), timeout=0.3 if fault["answer"] == "hang" else 10.0)
    struck = place.faults.add({"service": "entra", "path": path, **fault})
    error = await place.refused(credential)
    assert (type(error), error.code, error.retry_after, error.retryable) == (AuthorityDown, code, wait, True)
    assert struck.hits == 1
    place.faults.clear()
    assert await credential.ask(SCOPE)


async def test_a_refusal_is_not_replayed(place: Place) -> None:
    """msal would answer from memory for a minute; here each question reaches the authority, and the keyring alone says when."""
    struck = place.faults.add({"service": "entra", "path": "token", "answer": "400"})
    credential = place.credential()
    for hits in (1, 2):
        assert (await place.refused(credential)).code == "aadsts_900144"
        assert struck.hits == hits


async def test_an_authority_that_is_not_there(place: Place) -> None:
    """Nobody listens: that passes, it is no refusal."""
    cloud = msgspec.structs.replace(place.profile().cloud, authority="https://localhost:1")
    error = await place.refused(place.credential(place.profile(cloud=cloud)))
    assert (error.code, error.status) == ("authority_down", 503)


async def test_a_host_that_nobody_vouches_for(place: Place) -> None:
    """Without the right certificate nothing is sent."""
    import ssl

    for kind in KINDS:
        profile = place.by(kind)
        credential = ClientCredentials(profile, source_of(profile, place.parts), tls=ssl.create_default_context)
        assert (await place.refused(credential)).code == "authority_down"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "error",
    [VaultRefused("vault_secret_missing", "None.", "Create it."), VaultDown("vault_down", "Down."), IdentityDown("identity_down", "Down.")],
)
async def test_the_vaults_errors_are_the_vaults(place: Place, error: AccountFault, kind: str) -> None:
    """They come through as they are, for either kind of material, and nothing is asked of the authority."""
    profile = place.by(kind)
    place.vault.fault = error
    asked = place.faults.add({"service": "entra", "delay": 0})
    assert await place.refused(place.credential(profile)) is error
    assert not asked.hits


FEDERATION: dict[str, tuple[Callable[[Place], object], str]] = {
    "not trusted": (lambda place: place.app.federated.clear(), "aadsts_700211"),
    "another identity": (lambda place: trust(place, subject="66666666-0000-0000-0000-000000000000"), "aadsts_700213"),
    "another case": (lambda place: trust(place, subject=place.directory.app("mailroom-identity").object_id.upper()), "aadsts_700213"),
    "another audience": (lambda place: trust(place, audience="api://AzureADTokenExchangeUSGov"), "aadsts_700212"),
    "another issuer": (lambda place: trust(place, issuer="https://login.microsoftonline.com/other/v2.0"), "aadsts_700211"),
}


def trust(place: Place, **changes: str) -> None:
    place.app.federated[:] = [dataclasses.replace(place.app.federated[0], **changes)]


@pytest.mark.parametrize("case", FEDERATION)
async def test_a_federated_credential_that_does_not_match(place: Place, case: str) -> None:
    """Each part has its number; the advice names the identity's object id, and one question is asked, for no other token would do."""
    change, code = FEDERATION[case]
    change(place)
    asked = place.faults.add({"service": "entra", "path": "token", "delay": 0})
    error = await place.refused(place.credential(place.by("federated")))
    assert (error.code, asked.hits) == (code, 1)
    assert "federated credential" in error.next_step
    assert "object (principal) id" in error.next_step


async def test_an_ended_identitys_token_is_asked_for_again(place: Place) -> None:
    """Where the authority refuses the remembered one as unknown, the platform may have a newer one; the same one is not sent twice."""
    tokens = iter(["first", "second"])
    asked: list[bool] = []

    class Platform:
        async def token(self, resource: str, *, fresh: bool = False) -> Token:
            asked.append(fresh)
            return Token(next(tokens) if fresh else "first", place.time + 60)

    source = source_of(place.by("federated"), FakeParts(identity=Platform()))
    assert [candidate.proof async for candidate in source.candidates()] == [Assertion("first")]
    assert [candidate.proof async for candidate in source.candidates()] == [Assertion("first"), Assertion("second")]
    assert asked == [False, True] * 2


@pytest.mark.parametrize("reached", [0, 1])
async def test_who_is_cancelled_leaves_it_usable(place: Place, reached: int) -> None:
    """Given up before it reached the authority or after, a question spoils nothing for the next one; nor does its thread's late end."""
    first = place.faults.add({"service": "entra", "path": "token", "delay": 0.3, "times": 1})
    place.faults.add({"service": "entra", "path": "token", "delay": 0.6, "times": 1})  # so that the next one is under way at that end
    credential = place.credential()
    given_up = asyncio.create_task(credential.ask(SCOPE))
    await asyncio.sleep(0.01)
    while first.hits < reached:  # noqa: ASYNC110  # a fault counts, it does not call
        await asyncio.sleep(0.01)
    given_up.cancel()
    assert await credential.ask(SCOPE)
    assert given_up.cancelled()
