"""Google without a key, against the sandbox's identity endpoint and its Google: one answer leads to the next, and no secret is anywhere."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from mailroom.credentials import workload_identity
from mailroom.credentials.jwt_bearer import JwtBearer
from mailroom.credentials.workload_identity import SignsAtGoogle
from mailroom.errors import AccountFault, AuthorityDown, AuthorityRefused, IdentityDown
from mailroom.identity import Identity
from mailroom.model.account import Profile
from mailroom.settings.clouds import CLOUDS
from sandbox import identity
from sandbox.directory import TOKEN_EXCHANGE, Directory
from sandbox.google.workspace import READONLY, SEND, Pool
from sandbox.serve import serve
from sandbox.town import town
from tests.contract import sandbox_google
from tests.contract.sandbox_google import ANNA, ROBOT, Office
from tests.fakes import FakeParts

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCOPE = f"{SEND} {READONLY}"
PROVIDER = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/azure/providers/entra"


@dataclass
class Place:
    office: Office
    directory: Directory
    identity: Identity
    ahead: float = 0.0

    def profile(self, subject: str = ANNA, **options: str) -> Profile:
        known = {"service_account": ROBOT, "workload_provider": PROVIDER} | options
        return self.office.profile(grant="workload_identity", secret=None, subject=subject, options=tuple(sorted(known.items())))

    def credential(self, *, timeout: float = 10.0, subject: str = ANNA, **options: str) -> JwtBearer:
        profile, parts = self.profile(subject, **options), FakeParts(self.office.http, identity=self.identity)
        return JwtBearer(profile, SignsAtGoogle(profile, parts, timeout=timeout), parts.client, timeout=timeout)

    async def refused(self, credential: JwtBearer, scope: str = SCOPE) -> AccountFault:
        with pytest.raises(AccountFault) as raised:
            await credential.ask(scope)
        assert raised.value.next_step
        return raised.value


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place_at_work(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    async with sandbox_google.office(tmp_path_factory.mktemp("ca")) as office:
        directory, header = town(), identity.new_header()
        directory.authority = "https://login.example"
        served = await serve(identity.create(directory, office.faults, header), None)
        env = {"IDENTITY_ENDPOINT": served.url + identity.PATH, "IDENTITY_HEADER": header}
        who = directory.app("mailroom-identity").client_id
        yield Place(office, directory, Identity(office.http, env, client_id=who))
        await served.stop()


@pytest.fixture
def place(place_at_work: Place) -> Place:
    """A pool that trusts the tenant, and a service account that lets our identity sign for it."""
    place = Place(sandbox_google.fresh(place_at_work.office), place_at_work.directory, place_at_work.identity)
    directory = place.directory
    resource = directory.resource(TOKEN_EXCHANGE)
    assert resource
    pool = Pool(PROVIDER, directory.issuer(2), resource.audience, directory.keys.verify)
    place.office.workspace.pools = {PROVIDER: pool}
    place.office.robot.signers.add(pool.principal(directory.app("mailroom-identity").object_id))
    return place


async def test_no_key_and_yet_a_token(place: Place) -> None:
    """The managed identity's token becomes Google's, that signs the assertion, and the token acts as the mailbox."""
    token = await place.credential().ask(SCOPE)
    grant = place.office.workspace.grant(token.value)
    assert grant
    assert (grant.subject, grant.scopes) == (ANNA, {SEND, READONLY})
    assert place.office.workspace.sign_ins == [(ROBOT, ANNA)]


async def test_the_exchange_is_remembered(place: Place) -> None:
    """Many mailboxes, one exchange: only signing is asked for again."""
    credential = place.credential()
    place.office.faults.add({"service": "google", "path": "/v1/token", "delay": 0})
    for _ in range(3):
        await credential.ask(SCOPE)
    assert place.office.faults.all[0].hits == 1


async def test_an_ended_exchange_is_made_anew(place: Place) -> None:
    """A federated token that Google revoked fails once; the next question begins with a new one."""
    credential = place.credential()
    await credential.ask(SCOPE)
    place.office.workspace.revoke_all()
    assert (await place.refused(credential)).code == "google_signing_refused"
    assert await credential.ask(SCOPE)


async def test_an_unknown_provider(place: Place) -> None:
    """The pool's provider was deleted or misspelt."""
    assert (await place.refused(place.credential(workload_provider=f"{PROVIDER}x"))).code == "google_provider_unknown"


@pytest.mark.parametrize("change", [{"issuer": "https://elsewhere"}, {"audience": "api://other"}])
async def test_a_provider_that_does_not_trust_us(place: Place, change: dict[str, str]) -> None:
    """Another issuer or audience than the pool expects: the step names both."""
    place.office.workspace.pools[PROVIDER] = replace(place.office.workspace.pools[PROVIDER], **change)
    error = await place.refused(place.credential())
    assert isinstance(error, AuthorityRefused)
    assert error.code == "google_federation_refused"
    assert "audience" in error.next_step


async def test_an_identity_that_may_not_sign(place: Place) -> None:
    """The role that is missing is named, and the account on which."""
    place.office.robot.signers.clear()
    error = await place.refused(place.credential())
    assert error.code == "google_signing_denied"
    assert "Service Account Token Creator" in error.next_step
    assert ROBOT in error.next_step


async def test_scopes_that_were_not_delegated(place: Place) -> None:
    """The last of the three answers is told as with a key."""
    place.office.robot.delegated.clear()
    assert (await place.refused(place.credential())).code == "google_not_delegated"


async def test_what_google_refuses_in_the_end(place: Place) -> None:
    """An unknown account, a scope that is none, a mailbox that is none, an account that is off: the same codes as with a key."""
    unknown = await place.refused(place.credential(service_account="nobody@project-1.iam.gserviceaccount.com"))
    assert (unknown.code, "nobody@project-1" in unknown.next_step) == ("google_signing_denied", True)
    assert (await place.refused(place.credential(), f"{SEND}x")).code == "google_scope_invalid"
    assert (await place.refused(place.credential(subject="nobody@workspace.example"))).code == "google_mailbox_unknown"
    place.office.robot.disabled = True
    assert (await place.refused(place.credential())).code == "google_account_disabled"


async def test_no_identity(place: Place) -> None:
    """The platform's endpoint says no: that is the identity's fault, and Google is not asked."""
    error = await place.refused(place.credential(audience="https://unknown.example"))
    assert isinstance(error, IdentityDown)


@pytest.mark.parametrize("path", ["/v1/token", ":signJwt"])
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("429", "authority_throttled"),
        ("503", "authority_busy"),
        ("html", "authority_gateway"),
        ("garbage", "authority_unreadable"),
        ("hang", "authority_timeout"),
        ("cut", "authority_down"),
    ],
)
async def test_google_in_trouble(place: Place, path: str, answer: str, code: str) -> None:
    """At either step: it may be asked again, and nothing was refused."""
    struck = place.office.faults.add({"service": "google", "path": path, "answer": answer})
    error = await place.refused(place.credential(timeout=0.3 if answer == "hang" else 10.0))
    assert isinstance(error, AuthorityDown)
    assert (error.code, error.retryable, struck.hits) == (code, True, 1)
    place.office.faults.clear()
    assert await place.credential().ask(SCOPE)


@pytest.mark.parametrize("off", [-4000.0, -300.0, 300.0, 4000.0])
async def test_clocks_that_differ(place: Place, off: float) -> None:
    """Five minutes either way are nothing; more is named, by who takes the assertion or by who is to sign it: the claims are ours."""
    place.office.workspace.now = lambda: time.time() + off
    if abs(off) <= 300:
        assert await place.credential().ask(SCOPE)
        return
    error = await place.refused(place.credential())
    assert error.code == ("google_signing_refused" if off > 0 else "google_clock_skew")
    assert "clock" in error.next_step


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"service_account": ROBOT, "workload_provider": PROVIDER}, []),
        ({"service_account": "robot", "workload_provider": "projects/1"}, ["service_account", "workload_provider"]),
    ],
)
async def test_what_a_profile_may_say(options: dict[str, str], wrong: list[str]) -> None:
    """The provider by its full name, the account by its address."""
    profile: Any = msgspec.structs.replace(Profile("g", "workload_identity", "", "", CLOUDS["public"]), options=tuple(options.items()))
    assert [key for key, _, _ in workload_identity.mistakes(profile)] == wrong
