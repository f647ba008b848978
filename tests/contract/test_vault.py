"""RestVault, VaultCertificates and Identity against the sandbox's Key Vault and identity endpoint, over TLS with its own CA."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12
from cryptography.x509.oid import NameOID

from mailroom.errors import IdentityDown, VaultDown, VaultRefused
from mailroom.identity import Identity
from mailroom.ports import Signing, Vault
from mailroom.storage.certificates import PEM_TYPE, PFX_TYPE, VaultCertificates
from mailroom.storage.vault import RestVault
from sandbox import identity, vault
from sandbox.directory import VAULT
from sandbox.faults import Faults
from sandbox.serve import serve
from tests.contract.sandbox_town import Office, office
from tests.fakes import FakeVault

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)


@dataclass
class Place:
    """`env` is what the platform sets for the app whose identity may use the vault."""

    office: Office
    url: str
    contents: vault.Vault
    faults: Faults
    env: dict[str, str]
    slept: list[float] = field(default_factory=list)

    @property
    def client_id(self) -> str:
        return self.office.directory.app("mailroom-identity").client_id

    def vault(self, **options: Any) -> RestVault:
        who = Identity(self.office.http, self.env, client_id=self.client_id)
        return RestVault(self.url, self.office.http, who, resource=VAULT, sleep=self.sleep, **options)

    def certificates(self, **options: Any) -> VaultCertificates:
        return VaultCertificates(self.url, self.env, client_id=self.client_id, **options)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    async with office(tmp_path_factory.mktemp("town")) as entra:
        contents, faults, header = vault.Vault(), Faults(), identity.new_header()
        locked = await serve(vault.create(entra.directory, faults, contents), entra.ca)
        site = await serve(identity.create(entra.directory, faults, header), None)
        env = {"IDENTITY_ENDPOINT": site.url + identity.PATH, "IDENTITY_HEADER": header}
        yield Place(entra, vault.url(locked), contents, faults, env)
        await site.stop()
        await locked.stop()


@pytest.fixture
def place(town: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """azure-identity and requests read the environment itself."""
    for name, value in {**town.env, "REQUESTS_CA_BUNDLE": str(town.office.ca.bundle)}.items():
        monkeypatch.setenv(name, value)
    town.faults.clear()
    town.slept.clear()
    return town


@pytest.mark.parametrize("kind", ["rest", "fake"])
async def test_a_secret_is_read_and_set(place: Place, kind: str) -> None:
    """What was set comes back, whatever characters it holds, and a new version is seen by who set it; what was not is missing."""
    safe: Vault = place.vault() if kind == "rest" else FakeVault()
    for value in ("p@ss wörd\n\"'", "x" * 25_000):
        await safe.set_secret("client-secret", value)
        assert await safe.secret("client-secret") == value
        assert await safe.secret("client-secret", fresh=True) == value
    with pytest.raises(VaultRefused) as missing:
        await safe.secret("never-set")
    assert missing.value.code == "vault_secret_missing"


async def test_a_secret_is_remembered(place: Place) -> None:
    """The vault is asked once in hours; `fresh` asks again, and then the new value is what is remembered."""
    time_ = [time.time()]
    safe = place.vault(now=lambda: time_[0], keep=3600.0)
    place.contents.set_secret("rotated", "one")
    assert await safe.secret("rotated") == "one"
    place.contents.set_secret("rotated", "two")
    assert await safe.secret("rotated") == "one"
    assert await safe.secret("rotated", fresh=True) == "two"
    place.contents.set_secret("rotated", "three")
    assert await safe.secret("rotated") == "two"
    time_[0] += 3601
    assert await safe.secret("rotated") == "three"


async def test_refusals_of_secrets_say_what_to_do(place: Place) -> None:
    """Missing, disabled and forbidden secrets are told apart, by name and with a next step."""
    with pytest.raises(VaultRefused, match="nowhere") as missing:
        await place.vault().secret("nowhere")
    assert (missing.value.code, "accounts.toml" in missing.value.next_step) == ("vault_secret_missing", True)
    place.contents.set_secret("off", "x", enabled=False)
    with pytest.raises(VaultRefused, match="off") as disabled:
        await place.vault().secret("off")
    assert disabled.value.code == "vault_secret_disabled"
    stranger = Identity(place.office.http, place.env, client_id=place.client_id)
    place.office.directory.app("mailroom-identity").azure_roles.discard("Key Vault Secrets Officer")
    try:
        with pytest.raises(VaultRefused, match="Key Vault Secrets Officer") as forbidden:
            await RestVault(place.url, place.office.http, stranger, resource=VAULT).set_secret("client-secret", "x")
    finally:
        place.office.directory.app("mailroom-identity").azure_roles.add("Key Vault Secrets Officer")
    assert forbidden.value.code == "vault_forbidden"


async def test_ends_are_found_on_every_page(place: Place) -> None:
    """Secrets and certificates with an end are listed page by page, each once; what is disabled or has no end is not."""
    safe = place.vault()
    for number in range(30):
        place.contents.set_secret(f"ends-{number}", "x", ends=int(SOON.timestamp()))
    place.contents.set_secret("endless", "x")
    place.contents.set_secret("disabled-end", "x", ends=int(SOON.timestamp()), enabled=False)
    made = place.contents.create_certificate("with-end", POLICY)
    found = await safe.ends()
    assert {("secret", f"ends-{number}", SOON) for number in range(30)} <= set(found)
    assert ("certificate", "with-end", made.certificate.not_valid_after_utc) in found
    names = [name for _, name, _ in found]
    assert names.count("with-end") == 1
    assert not {"endless", "disabled-end"} & set(names)


async def test_a_vault_that_is_down_is_asked_again(place: Place) -> None:
    """Three back-offs as Microsoft asks for, then VaultDown with what the vault said about waiting."""
    place.contents.set_secret("patience", "x")
    place.faults.add({"service": "vault", "path": "/secrets/patience", "answer": "503", "times": 3})
    assert await place.vault().secret("patience") == "x"
    assert len(place.slept) == 3
    place.faults.add({"service": "vault", "path": "/secrets/patience", "answer": "429", "retry_after": 7, "times": 4})
    with pytest.raises(VaultDown) as down:
        await place.vault().secret("patience")
    assert down.value.retry_after == 7.0
    assert min(place.slept[3:]) >= 7.0


async def test_an_identity_that_is_refused_says_so(place: Place) -> None:
    """A client id that is none of the app's identities is named as what to correct."""
    wrong = Identity(place.office.http, place.env, client_id="00000000-0000-0000-0000-000000000000")
    with pytest.raises(IdentityDown, match="AZURE_CLIENT_ID") as refused:
        await wrong.token(VAULT)
    assert refused.value.code == "identity_refused"


POLICY: dict[str, Any] = {
    "issuer": {"name": "Self"},
    "key_props": {"exportable": True, "key_size": 2048, "kty": "RSA"},
    "x509_props": {"subject": "CN=mailroom", "validity_months": 6},
}
KEY_PROPS: dict[str, Any] = {"exportable": True, "kty": "RSA", "key_size": 2048}


@pytest.mark.parametrize("content_type", [PFX_TYPE, PEM_TYPE])
async def test_a_certificate_comes_with_its_key(place: Place, content_type: str) -> None:
    """From either form the vault keeps it in: key, certificate, both thumbprints, times and version."""
    name = "signing-" + content_type.rpartition("-")[2]
    made = place.contents.create_certificate(name, {**POLICY, "secret_props": {"contentType": content_type}})
    found = await place.certificates().certificate(name)
    assert found.certificate_pem == made.certificate.public_bytes(Encoding.PEM)
    assert found.key_pem == made.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert found.thumbprint_sha1 == made.certificate.fingerprint(hashes.SHA1()).hex()
    assert found.thumbprint_sha256 == made.certificate.fingerprint(hashes.SHA256()).hex()
    assert (found.not_before, found.not_after) == (made.certificate.not_valid_before_utc, made.certificate.not_valid_after_utc)
    assert found.version == made.version
    assert "PRIVATE" not in repr(found)


def signing_vault(place: Place, kind: str, name: str) -> tuple[Vault, x509.Certificate]:
    """A vault with one certificate under that name, its key not exportable where that can be said."""
    if kind == "rest":
        made = place.contents.create_certificate(name, {**POLICY, "key_props": {"exportable": False, "key_size": 2048, "kty": "RSA"}})
        return place.vault(), made.certificate
    fake = FakeVault(certificates={name: [(self_signed(RSA), RSA)]})
    return fake, fake.certificates[name][0][0]


@pytest.mark.parametrize("kind", ["rest", "fake"])
async def test_the_public_part_of_a_certificate(place: Place, kind: str) -> None:
    """Its DER, both thumbprints, times and version, newest or by version; an older one stands behind it in the list."""
    safe, made = signing_vault(place, kind, f"public-{kind}")
    found = await safe.public_certificate(f"public-{kind}")
    assert found.der == made.public_bytes(Encoding.DER)
    assert found.thumbprint_sha1 == made.fingerprint(hashes.SHA1()).hex()
    assert found.thumbprint_sha256 == made.fingerprint(hashes.SHA256()).hex()
    assert (found.not_before, found.not_after) == (made.not_valid_before_utc, made.not_valid_after_utc)
    assert await safe.public_certificate(f"public-{kind}", found.version) == found
    [version] = await safe.certificate_versions(f"public-{kind}")
    assert (version.version, version.not_after, version.usable(datetime.now(UTC))) == (found.version, found.not_after, True)
    assert not version.usable(found.not_after)
    for missing in (("nowhere", ""), (f"public-{kind}", "0" * 32)):
        with pytest.raises(VaultRefused) as refused:
            await safe.public_certificate(*missing)
        assert refused.value.code == "vault_certificate_missing"


@pytest.mark.parametrize("algorithm", ["PS256", "RS256"])
@pytest.mark.parametrize("kind", ["rest", "fake"])
async def test_the_vault_signs(place: Place, kind: str, algorithm: Signing) -> None:
    """A digest goes in and a signature comes out that the public part verifies, though the key can leave in no way."""
    safe, made = signing_vault(place, kind, f"signs-{kind}-{algorithm}")
    version = (await safe.public_certificate(f"signs-{kind}-{algorithm}")).version
    signature = await safe.sign(f"signs-{kind}-{algorithm}", version, algorithm, hashlib.sha256(b"to be signed").digest())
    key = made.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256().digest_size)
    key.verify(signature, b"to be signed", pss if algorithm == "PS256" else padding.PKCS1v15(), hashes.SHA256())


async def test_versions_are_listed_page_by_page(place: Place) -> None:
    """All of them, the newest first, with what is disabled marked as such."""
    kept = [
        place.contents.add_certificate("many", RSA, self_signed(RSA), {"secret_props": {"contentType": PFX_TYPE}, "key_props": KEY_PROPS})
        for _ in range(30)
    ]
    for created, one in enumerate(kept):
        one.created = 1_700_000_000 + created
    kept[3].enabled = False
    found = await place.vault().certificate_versions("many")
    assert [one.version for one in found] == [one.version for one in reversed(kept)]
    assert [one.version for one in found if not one.enabled] == [kept[3].version]


async def test_who_may_not_sign_is_told_the_role(place: Place) -> None:
    """Reading the certificate is one role, using its key another."""
    safe, _ = signing_vault(place, "rest", "no-role")
    found = await safe.public_certificate("no-role")
    roles = place.office.directory.app("mailroom-identity").azure_roles
    roles.discard("Key Vault Crypto User")
    try:
        with pytest.raises(VaultRefused, match="Key Vault Crypto User") as refused:
            await safe.sign("no-role", found.version, "PS256", bytes(32))
    finally:
        roles.add("Key Vault Crypto User")
    assert refused.value.code == "vault_forbidden"


@pytest.mark.parametrize(
    ("certificate", "policy", "code"),
    [
        ({"end": timedelta(days=-1)}, {}, "certificate_expired"),
        ({"start": timedelta(days=1)}, {}, "certificate_not_yet_valid"),
        ({}, {"kty": "EC"}, "certificate_key_unfit"),
        ({}, {"key_size": 1024}, "certificate_key_unfit"),
    ],
)
async def test_unfit_public_certificates_are_refused(
    place: Place, certificate: dict[str, timedelta], policy: dict[str, Any], code: str
) -> None:
    """Before anything is signed, with the codes that certificates with their keys have."""
    policy = {"secret_props": {"contentType": PFX_TYPE}, "key_props": KEY_PROPS | policy}
    place.contents.add_certificate("unfit-public", RSA, self_signed(RSA, **certificate), policy)
    with pytest.raises(VaultRefused, match="unfit-public") as refused:
        await place.vault().public_certificate("unfit-public")
    assert refused.value.code == code
    assert refused.value.next_step


async def test_a_disabled_public_certificate_is_refused(place: Place) -> None:
    """It is no key to sign with, whatever its times are."""
    place.contents.create_certificate("off-public", POLICY, enabled=False)
    with pytest.raises(VaultRefused, match="off-public") as refused:
        await place.vault().public_certificate("off-public")
    assert refused.value.code == "vault_certificate_disabled"


async def test_a_signature_that_is_none(place: Place) -> None:
    """What a proxy answers in the vault's place is no signature."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/msi":
            return httpx.Response(200, json={"access_token": "t", "expires_on": str(int(time.time()) + 3600)})
        return httpx.Response(200, json={"kid": "k", "value": "not base64!"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        who = Identity(client, {"IDENTITY_ENDPOINT": "http://platform/msi", "IDENTITY_HEADER": "h"})
        with pytest.raises(VaultDown) as refused:
            await RestVault("https://name.vault.azure.net", client, who, resource=VAULT).sign("n", "v", "PS256", bytes(32))
    assert refused.value.code == "vault_unreadable"


async def test_a_certificate_by_version(place: Place) -> None:
    """Its key too can be had of an older version, for as long as two of them overlap."""
    old, new = (place.contents.create_certificate("overlap", POLICY) for _ in range(2))
    for version, made in ((old.version, old), ("", new), (new.version, new)):
        found = await place.certificates().certificate("overlap", version)
        assert (found.version, found.certificate_pem) == (made.version, made.certificate.public_bytes(Encoding.PEM))


def self_signed(key: Any, *, start: timedelta = timedelta(days=-10), end: timedelta = timedelta(days=10)) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    return builder.not_valid_before(now + start).not_valid_after(now + end).sign(key, hashes.SHA256())


def pfx(key: Any, certificate: x509.Certificate) -> str:
    return base64.b64encode(pkcs12.serialize_key_and_certificates(None, key, certificate, None, NoEncryption())).decode()


def pem(key: Any, *certificates: x509.Certificate) -> str:
    parts = [certificate.public_bytes(Encoding.PEM) for certificate in certificates]
    return b"".join([key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), *parts]).decode()


RSA = rsa.generate_private_key(65537, 2048)
SHORT = rsa.generate_private_key(65537, 1024)  # what old scripts made
CURVE = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    ("content_type", "value", "code", "said"),
    [
        ("text/plain", "just a secret", "certificate_unreadable", "text/plain"),
        (PFX_TYPE, "no base64!", "certificate_unreadable", "PFX"),
        (PFX_TYPE, base64.b64encode(b"no PFX").decode(), "certificate_unreadable", "PFX"),
        (PEM_TYPE, "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----", "certificate_unreadable", "PEM"),
        (PEM_TYPE, self_signed(RSA).public_bytes(Encoding.PEM).decode(), "certificate_key_missing", "exportable"),
        (PEM_TYPE, pem(RSA, self_signed(SHORT)), "certificate_key_missing", "exportable"),
        (PFX_TYPE, pfx(None, self_signed(RSA)), "certificate_key_missing", "exportable"),
        (PFX_TYPE, pfx(SHORT, self_signed(SHORT)), "certificate_key_unfit", "2048"),
        (PFX_TYPE, pfx(CURVE, self_signed(CURVE)), "certificate_key_unfit", "RSA"),
        (PFX_TYPE, pfx(RSA, self_signed(RSA, end=timedelta(days=-1))), "certificate_expired", "expired on 20"),
        (PFX_TYPE, pfx(RSA, self_signed(RSA, start=timedelta(days=1))), "certificate_not_yet_valid", "not valid before 20"),
    ],
)
async def test_unfit_certificates_are_refused(place: Place, content_type: str, value: str, code: str, said: str) -> None:
    """What cannot sign is refused before it is tried, with the reason and what to do."""
    place.contents.set_secret("unfit", value, content_type)
    with pytest.raises(VaultRefused, match="unfit") as refused:
        await place.certificates().certificate("unfit")
    assert refused.value.code == code
    assert said in str(refused.value)
    assert refused.value.next_step


async def test_a_chain_in_pem_gives_the_certificate_of_the_key(place: Place) -> None:
    """The issuer may stand first: ours is the one that has the key."""
    own = self_signed(RSA)
    place.contents.set_secret("chain", pem(RSA, self_signed(SHORT), own), PEM_TYPE)
    found = await place.certificates().certificate("chain")
    assert found.certificate_pem == own.public_bytes(Encoding.PEM)


async def test_refusals_of_certificates_say_what_to_do(place: Place) -> None:
    """Missing and disabled certificates, a vault that is down and an identity that may not read are told apart."""
    with pytest.raises(VaultRefused, match="nowhere") as missing:
        await place.certificates().certificate("nowhere")
    assert missing.value.code == "vault_certificate_missing"
    place.contents.create_certificate("disabled", POLICY, enabled=False)
    with pytest.raises(VaultRefused, match="disabled") as disabled:
        await place.certificates().certificate("disabled")
    assert disabled.value.code == "vault_certificate_disabled"
    place.faults.add({"service": "vault", "path": "/secrets/busy", "answer": "429", "retry_after": 9, "times": 5})
    with pytest.raises(VaultDown) as down:
        await place.certificates().certificate("busy")
    assert down.value.retry_after == 9.0
    stranger = VaultCertificates(place.url, place.env, client_id="00000000-0000-0000-0000-000000000000")
    with pytest.raises(IdentityDown):
        await stranger.certificate("nowhere")


async def test_a_vault_that_is_no_vault(place: Place) -> None:
    """A wrong MAILROOM_VAULT_URL is named as such."""
    wrong = VaultCertificates("https://127.0.0.1:1", place.env, client_id=place.client_id)
    with pytest.raises(VaultDown):
        await wrong.certificate("any")
    who = Identity(place.office.http, place.env, client_id=place.client_id)
    with pytest.raises(VaultDown, match="vault_down"):
        await RestVault("https://127.0.0.1:1", place.office.http, who, resource=VAULT, sleep=place.sleep).secret("any")


async def test_the_next_page_is_taken_only_from_the_vault() -> None:
    """A list that goes on elsewhere gets no token of ours."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        if request.url.path == "/msi":
            return httpx.Response(200, json={"access_token": "t", "expires_on": str(int(time.time()) + 3600)})
        return httpx.Response(200, json={"value": [], "nextLink": "https://elsewhere.example/secrets?api-version=7.4"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        who = Identity(client, {"IDENTITY_ENDPOINT": "http://platform/msi", "IDENTITY_HEADER": "h"})
        with pytest.raises(VaultRefused, match="another address"):
            await RestVault("https://name.vault.azure.net", client, who, resource=VAULT).ends()
    assert "elsewhere.example" not in asked
