"""The JWT bearer grant against the sandbox's Google, over TLS: what it sends, and what each failure means."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mailroom.credentials import jwt_bearer
from mailroom.credentials._google_answers import Given, given
from mailroom.credentials._google_answers import failure as google_failure
from mailroom.credentials.jwt_bearer import JwtBearer
from mailroom.errors import AccountFault, AuthorityDown, AuthorityRefused, VaultDown, VaultRefused
from mailroom.model.account import Profile
from mailroom.ports import Credential
from mailroom.settings.clouds import CLOUDS
from sandbox.google.workspace import MODIFY, READONLY, SEND, p12
from sandbox.vault import pfx
from tests.contract import sandbox_google
from tests.contract.sandbox_google import ANNA, BEN, ROBOT, Office
from tests.fakes import FakeParts, FakeVault

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCOPE = f"{SEND} {READONLY}"


class KeepingVault(FakeVault):
    """As the REST vault: what was read once is remembered until it is asked for afresh."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, str] = {}

    async def secret(self, name: str, *, fresh: bool = False) -> str:
        if fresh or name not in self.kept:
            self.kept[name] = await super().secret(name)
        return self.kept[name]


@dataclass
class Place:
    office: Office
    vault: KeepingVault
    ahead: float = 0.0

    def credential(self, *, timeout: float = 10.0, **changes: Any) -> JwtBearer:
        built = jwt_bearer.build(self.office.profile(**changes), FakeParts(self.office.http, vault=self.vault))
        return JwtBearer(built._profile, built._signer, built._client, timeout=timeout, now=lambda: time.time() + self.ahead)

    async def refused(self, credential: Credential, scope: str = SCOPE) -> AccountFault:
        with pytest.raises(AccountFault) as raised:
            await credential.ask(scope)
        told = f"{raised.value} {raised.value.__cause__}"
        assert "PRIVATE" not in told
        assert not any(secret[40:80] in told for secret in self.vault.secrets.values() if len(secret) > 80)
        return raised.value


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def office_at_work(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Office]:
    async with sandbox_google.office(tmp_path_factory.mktemp("ca")) as office:
        yield office


@pytest.fixture
def place(office_at_work: Office) -> Place:
    place = Place(sandbox_google.fresh(office_at_work), KeepingVault())
    place.vault.secrets["robot"] = place.office.robot.new_json_key()
    return place


async def test_a_json_key_gets_a_token_for_the_mailbox(place: Place) -> None:
    """The token acts as the account's mailbox, in the scopes that were asked for, for as long as Google said."""
    token = await place.credential().ask(SCOPE)
    grant = place.office.workspace.grant(token.value)
    assert grant is not None
    assert (grant.subject, grant.scopes) == (ANNA, {SEND, READONLY})
    assert token.lifetime == 3599.0
    assert place.office.workspace.sign_ins == [(ROBOT, ANNA)]


async def test_each_mailbox_has_a_token_of_its_own(place: Place) -> None:
    """One profile, two mailboxes: each token acts as its own."""
    tokens = [await place.credential(subject=subject).ask(SCOPE) for subject in (ANNA, BEN)]
    grants = [place.office.workspace.grant(token.value) for token in tokens]
    assert [grant.subject for grant in grants if grant] == [ANNA, BEN]


async def test_a_p12_key_signs_too(place: Place) -> None:
    """Usual password or one of the vault's, right alias or none; the account's address comes from the profile."""
    place.vault.secrets["robot"] = base64.b64encode(place.office.robot.new_p12_key()).decode()
    assert await place.credential(options=(("service_account", ROBOT),)).ask(SCOPE)
    place.vault.secrets |= {"robot": base64.encodebytes(place.office.robot.new_p12_key("s3cret", "mailer")).decode(), "pw": "s3cret"}
    place.vault.kept.clear()
    options = (("alias", "mailer"), ("password_secret", "pw"), ("service_account", ROBOT))
    assert await place.credential(options=options).ask(SCOPE)


def in_vault(place: Place, *, uploaded: bool) -> None:
    """A new version of the vault's certificate, and whether Google knows it."""
    key, certificate = pfx.self_signed({})
    place.vault.certificates.setdefault("google", []).append((certificate, key))
    if uploaded:
        place.office.robot.register(key.public_key())


BY_VAULT = {"secret": None, "certificate": "google", "options": (("key", "vault"), ("service_account", ROBOT))}


async def test_a_key_that_never_leaves_the_vault(place: Place) -> None:
    """The vault signs: no secret is read, no private key is anywhere but there, and Google takes the signature."""
    in_vault(place, uploaded=True)
    assert await place.credential(**BY_VAULT).ask(SCOPE)
    assert place.vault.reads == []


async def test_a_version_that_google_does_not_know_yet(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """The one before signs in meanwhile, and an event says so; without any that Google knows it is refused."""
    in_vault(place, uploaded=True)
    in_vault(place, uploaded=False)
    with caplog.at_level(logging.INFO, logger="mailroom"):
        assert await place.credential(**BY_VAULT).ask(SCOPE)
    assert "credential.previous_used" in caplog.text
    place.office.robot.keys.clear()
    assert (await place.refused(place.credential(**BY_VAULT))).code == "google_key_unknown"


@pytest.mark.parametrize("ahead", [-300.0, -10.0, 10.0, 299.0])
async def test_clocks_five_minutes_apart_still_work(place: Place, ahead: float) -> None:
    """Google takes no assertion from the future and none that is longer than an hour; ours is dated back."""
    place.ahead = ahead
    assert await place.credential().ask(SCOPE)


@pytest.mark.parametrize(("ahead", "says"), [(4000.0, "ahead of"), (-4000.0, "behind")])
async def test_a_wrong_clock_is_named(place: Place, ahead: float, says: str) -> None:
    """The refusal says how far this machine's clock is off, and in which direction."""
    place.ahead = ahead
    error = await place.refused(place.credential())
    assert error.code == "google_clock_skew"
    assert f"seconds {says} the authority's" in error.detail
    assert "clock" in error.next_step


async def test_an_unknown_service_account(place: Place) -> None:
    """Deleted, or another project's: its e-mail address is what to check."""
    place.office.workspace.accounts.clear()
    error = await place.refused(place.credential())
    assert isinstance(error, AuthorityRefused)
    assert (error.code, error.error) == ("google_account_unknown", "invalid_grant")


async def test_a_disabled_service_account(place: Place) -> None:
    """Google says disabled_client, and the next step is to enable it."""
    place.office.robot.disabled = True
    assert (await place.refused(place.credential())).code == "google_account_disabled"


async def test_scopes_that_were_not_delegated(place: Place) -> None:
    """The next step names the very scopes that the administrator must delegate."""
    place.office.robot.delegated = {SEND}
    error = await place.refused(place.credential())
    assert error.code == "google_not_delegated"
    assert f"{SEND}, {READONLY}" in error.next_step
    assert await place.credential().ask(SEND)


async def test_an_invalid_scope(place: Place) -> None:
    """A scope that Google does not know is the account's permissions' fault."""
    assert (await place.refused(place.credential(), f"{SEND}x")).code == "google_scope_invalid"


async def test_an_unknown_mailbox(place: Place) -> None:
    """`sub` must be a user of the domain."""
    error = await place.refused(place.credential(subject="nobody@workspace.example"))
    assert error.code == "google_mailbox_unknown"
    assert "`address`" in error.next_step


async def test_a_revoked_key_and_then_a_new_one(place: Place) -> None:
    """The remembered key is gone at Google: with the same one in the vault it is refused, with a new one the same question succeeds."""
    credential = place.credential()
    await credential.ask(SCOPE)
    place.office.robot.keys.clear()
    error = await place.refused(credential)
    assert error.code == "google_key_unknown"
    place.vault.secrets["robot"] = place.office.robot.new_json_key()
    assert await credential.ask(SCOPE)


async def test_a_key_of_somebody_else(place: Place) -> None:
    """A file whose id is known and whose key is not fails by its signature."""
    file = json.loads(place.vault.secrets["robot"])
    file["private_key"] = json.loads(place.office.workspace.account("other@p.iam.gserviceaccount.com").new_json_key())["private_key"]
    place.vault.secrets["robot"] = json.dumps(file)
    assert (await place.refused(place.credential())).code == "google_key_unknown"


def pem(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def json_file(**changes: str) -> str:
    return json.dumps({"type": "service_account", "client_email": ROBOT, "private_key": "none"} | changes)


@pytest.mark.parametrize(
    ("secret", "options", "code"),
    [
        ("{not json", {}, "google_key_unreadable"),
        ("neither", {}, "google_key_unreadable"),
        (base64.b64encode(b"no p12").decode(), {}, "google_p12_password"),
        (json.dumps({"type": "authorized_user"}), {}, "google_key_unreadable"),
        (json_file(), {}, "google_key_unreadable"),
        (json_file(private_key=pem(ec.generate_private_key(ec.SECP256R1()))), {}, "google_key_unfit"),
        (json_file(private_key=pem(rsa.generate_private_key(65537, 1024))), {}, "google_key_unfit"),
        (json_file(private_key=pem(rsa.generate_private_key(65537, 2048))), {"service_account": "o@x.example"}, "google_key_of_another"),
        (base64.b64encode(p12(*pfx.self_signed({}), "notasecret", "privatekey")).decode(), {}, "google_account_missing"),
        (
            base64.b64encode(p12(*pfx.self_signed({}), "notasecret", "privatekey")).decode(),
            {"service_account": ROBOT, "alias": "other"},
            "google_p12_alias",
        ),
        (base64.b64encode(p12(*pfx.self_signed({}), "changed", "privatekey")).decode(), {"service_account": ROBOT}, "google_p12_password"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("google") else "",
)
async def test_a_secret_that_is_no_good_key(place: Place, secret: str, options: dict[str, str], code: str) -> None:
    """Each has its code and a next step, and nothing of the secret is in it; Google is not asked."""
    place.vault.secrets["robot"] = secret
    error = await place.refused(place.credential(options=tuple(sorted(options.items()))))
    assert isinstance(error, VaultRefused)
    assert error.code == code
    assert error.next_step
    assert "robot" in error.detail
    assert not place.office.workspace.sign_ins


async def test_faults_of_the_vault_pass_through(place: Place) -> None:
    """A missing secret and a silent vault are told as what they are."""
    assert (await place.refused(place.credential(secret="missing"))).code == "vault_secret_missing"
    place.vault.fault = VaultDown("vault_down", "The vault did not answer.")
    assert isinstance(await place.refused(place.credential()), VaultDown)


@pytest.mark.parametrize(
    ("fault", "code", "wait"),
    [
        ({"answer": "429", "retry_after": 7}, "authority_throttled", 7.0),
        ({"answer": "503"}, "authority_busy", None),
        ({"answer": "html"}, "authority_gateway", None),
        ({"answer": "hang"}, "authority_timeout", None),
        ({"answer": "cut"}, "authority_down", None),
        ({"answer": "garbage"}, "authority_unreadable", None),
        ({"answer": "404"}, "authority_unreadable", None),
    ],
)
async def test_an_authority_in_trouble(place: Place, fault: dict[str, Any], code: str, wait: float | None) -> None:
    """Busy, silent or talking nonsense: it may be asked again, and nothing was refused."""
    struck = place.office.faults.add({"service": "google", "path": "/token", **fault})
    error = await place.refused(place.credential(timeout=0.3 if fault["answer"] == "hang" else 10.0))
    assert isinstance(error, AuthorityDown)
    assert (error.code, error.retry_after) == (code, wait)
    assert error.retryable
    assert struck.hits == 1, "when to ask again is the keyring's to say"


async def test_an_unknown_refusal_keeps_its_name() -> None:
    """An error that nobody foresaw is told by Google's own name and words, on one line."""
    request = httpx.Request("POST", "https://google.example/token")
    body = {"error": "org_internal", "error_description": "Restricted\nto users."}
    error = google_failure(httpx.Response(403, json=body, request=request), 0.0, SCOPE)
    assert isinstance(error, AuthorityRefused)
    assert (error.code, error.detail) == ("google_org_internal", "Restricted to users.")
    passing = google_failure(httpx.Response(400, json={"error": "internal_failure"}, request=request), 0.0, SCOPE)
    assert isinstance(passing, AuthorityDown)
    with pytest.raises(AuthorityDown, match="authority_unreadable"):
        given(httpx.Response(200, json={"id_token": "x"}, request=request), Given)


@pytest.mark.parametrize(
    ("keys", "wrong"),
    [
        ({"secret": "robot"}, []),
        ({"secret": "robot", "service_account": ROBOT, "password_secret": "p", "alias": "a"}, []),
        ({"secret": "robot", "service_account": "robot"}, ["service_account"]),
        ({"certificate": "c", "service_account": ROBOT, "key": "vault"}, []),
        ({"certificate": "c"}, ["service_account"]),
        ({"certificate": "c", "service_account": ROBOT, "alias": "a"}, ["alias"]),
        ({"certificate": "c", "service_account": ROBOT, "key": "hsm"}, ["key"]),
        ({"secret": "robot", "certificate": "c"}, ["certificate"]),
        ({"secret": "robot", "key": "vault"}, ["key"]),
        ({}, ["secret"]),
    ],
    ids=str,
)
async def test_what_a_profile_may_say(keys: dict[str, str], wrong: list[str]) -> None:
    """A file or a certificate, each with what belongs to it; a service account by its e-mail address."""
    own = {key: value for key, value in keys.items() if key in ("secret", "certificate")}
    options = tuple(sorted((key, value) for key, value in keys.items() if key not in own))
    profile = Profile("google", "jwt_bearer", "", "", CLOUDS["public"], options=options, **own)
    assert [key for key, _, _ in jwt_bearer.mistakes(profile)] == wrong


async def test_a_modify_scope_alone_is_enough(place: Place) -> None:
    """What was delegated is compared scope by scope."""
    place.office.robot.delegated = {MODIFY}
    assert await place.credential().ask(MODIFY)
