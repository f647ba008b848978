"""The sandbox's Key Vault against azure-keyvault-secrets with its defaults, and by hand where that SDK does not reach."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, NoEncryption, load_pem_private_key, pkcs12

from sandbox import identity, vault
from sandbox.directory import GRAPH, VAULT, App
from sandbox.faults import Faults
from sandbox.serve import serve
from tests.contract.sandbox_town import Certificate, Office, assertion, certificate, encode, office

pytestmark = pytest.mark.asyncio(loop_scope="module")

POLICY = {"issuer": {"name": "Self"}, "x509_props": {"subject": "CN=mailroom", "validity_months": 6}, "key_props": {"exportable": True}}


@dataclass(frozen=True)
class Town:
    office: Office
    url: str
    contents: vault.Vault

    def token(self, app: str = "graph") -> str:
        return self.office.directory.issue(self.office.directory.app(app).client_id, VAULT)

    async def ask(self, method: str, path: str, *, token: str | None = None, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token() if token is None else token}"}
        return await self.office.http.request(method, f"{self.url}{path}", params={"api-version": "7.5"}, headers=headers, **options)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    async with office(tmp_path_factory.mktemp("town")) as entra:
        contents = vault.Vault()
        served = await serve(vault.create(entra.directory, Faults(), contents), entra.ca)
        yield Town(entra, vault.url(served), contents)
        await served.stop()


@contextmanager
def secret_client(town: Town, credential: Any = None) -> Iterator[Any]:
    """With its defaults: the challenge's resource is verified."""
    from azure.identity import ClientSecretCredential
    from azure.keyvault.secrets import SecretClient

    app, directory, bundle = town.office.directory.app("graph"), town.office.directory, str(town.office.ca.bundle)
    credential = credential or ClientSecretCredential(
        directory.tenant,
        app.client_id,
        app.secret,
        authority=directory.authority,
        disable_instance_discovery=True,
        connection_verify=bundle,
    )
    with credential, SecretClient(town.url, credential, connection_verify=bundle) as client:
        yield client


async def test_secret_client_sets_gets_and_lists(town: Town) -> None:
    """An unmodified SecretClient finds its authority by the challenge, then sets, reads, lists and updates secrets."""

    def use() -> None:
        with secret_client(town) as client:
            first = client.set_secret("api-key", "one", content_type="text/plain", tags={"of": "test"})
            client.set_secret("api-key", "two")
            assert client.get_secret("API-KEY").value == "two"
            assert client.get_secret("api-key", first.properties.version).value == "one"
            versions = [found.version for found in client.list_properties_of_secret_versions("api-key")]
            assert versions[0] == first.properties.version
            updated = client.update_secret_properties("api-key", first.properties.version, enabled=False)
            assert (updated.enabled, updated.tags, updated.content_type) == (False, {"of": "test"}, "text/plain")
            assert "api-key" in [found.name for found in client.list_properties_of_secrets()]

    await asyncio.to_thread(use)


async def test_secret_client_as_the_identity(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform's identity reads and writes secrets through ManagedIdentityCredential and SecretClient, both unmodified."""
    from azure.identity import ManagedIdentityCredential

    directory, header = town.office.directory, identity.new_header()
    served = await serve(identity.create(directory, Faults(), header), None)
    monkeypatch.setenv("IDENTITY_ENDPOINT", served.url + identity.PATH)
    monkeypatch.setenv("IDENTITY_HEADER", header)

    def use() -> str:
        credential = ManagedIdentityCredential(client_id=directory.app("mailroom-identity").client_id)
        with secret_client(town, credential) as client:
            client.set_secret("by-identity", "x")
            return str(client.get_secret("by-identity").value)

    assert await asyncio.to_thread(use) == "x"
    await served.stop()


async def test_secret_client_pages(town: Town) -> None:
    """More than one page of secrets comes back whole, each once."""
    names = {f"page-{number:02}" for number in range(30)}
    for name in names:
        town.contents.set_secret(name, "x")

    def listed() -> list[str]:
        with secret_client(town) as client:
            return [found.name for found in client.list_properties_of_secrets()]

    found = await asyncio.to_thread(listed)
    assert names <= set(found)
    assert len(found) == len(set(found))


async def test_secret_client_sees_refusals(town: Town) -> None:
    """A missing secret is ResourceNotFoundError, a disabled newest version is 403, though an older one is enabled."""
    from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

    town.contents.set_secret("half", "old")
    town.contents.set_secret("half", "new", enabled=False)

    def use() -> None:
        with secret_client(town) as client:
            with pytest.raises(ResourceNotFoundError, match="SecretNotFound"):
                client.get_secret("missing")
            with pytest.raises(HttpResponseError, match="not allowed on a disabled secret") as refused:
                client.get_secret("half")
            assert refused.value.status_code == 403

    await asyncio.to_thread(use)


async def test_secret_client_deletes_and_recovers(town: Town) -> None:
    """Deletion is soft: the name is taken until the secret is recovered or purged."""
    from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError

    def use() -> None:
        with secret_client(town) as client:
            client.set_secret("gone", "x")
            assert client.begin_delete_secret("gone").result().scheduled_purge_date is not None
            with pytest.raises(ResourceExistsError, match="deleted but recoverable"):
                client.set_secret("gone", "y")
            client.begin_recover_deleted_secret("gone").wait()
            assert client.get_secret("gone").value == "x"
            client.begin_delete_secret("gone").wait()
            client.purge_deleted_secret("gone")
            with pytest.raises(ResourceNotFoundError):
                client.get_deleted_secret("gone")

    await asyncio.to_thread(use)


async def test_the_challenge(town: Town) -> None:
    """Without a token the answer is 401, and its header names the tenant and a resource that the vault's own host ends in."""
    answer = await town.office.http.put(f"{town.url}/secrets/any", params={"api-version": "7.5"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "Unauthorized")
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith(f'Bearer authorization="{town.office.authority}", resource="https://')
    assert town.url.endswith("." + challenge.partition('resource="https://')[2].rstrip('"'))


async def test_the_public_clouds_resource_works_too(town: Town) -> None:
    """A token asked for as https://vault.azure.net opens the vault, for clients that need no challenge."""
    app = town.office.directory.app("graph")
    signed_in = await town.office.ask(client_id=app.client_id, client_secret=app.secret, scope=f"{VAULT}/.default")
    assert (await town.ask("GET", "/secrets", token=signed_in.json()["access_token"])).status_code == 200


async def test_bad_tokens_are_challenged(town: Town) -> None:
    """A token for another audience, an expired one and nonsense are 401 with the challenge again."""
    directory = town.office.directory
    client_id = directory.app("graph").client_id
    for token, said in [
        (directory.issue(client_id, GRAPH), f"AKV10022: Invalid audience. Expected {VAULT}, found: {GRAPH}."),
        (directory.issue(client_id, VAULT, lifetime=-1), "expired"),
        ("nonsense", "Error validating token"),
    ]:
        answer = await town.ask("GET", "/secrets", token=token)
        assert answer.status_code == 401
        assert said in answer.json()["error"]["message"]
        assert "www-authenticate" in answer.headers


@pytest.mark.parametrize(
    ("role", "allowed", "forbidden"),
    [
        ("Key Vault Secrets User", [("GET", "/secrets/rbac"), ("GET", "/secrets")], [("PUT", "/secrets/rbac"), ("GET", "/certificates")]),
        ("Key Vault Secrets Officer", [("PUT", "/secrets/rbac"), ("GET", "/secrets/rbac")], [("GET", "/certificates")]),
        ("Key Vault Certificate User", [("GET", "/certificates"), ("GET", "/secrets/rbac")], [("PUT", "/secrets/rbac")]),
        ("Key Vault Reader", [("GET", "/certificates"), ("GET", "/secrets")], [("GET", "/secrets/rbac")]),
        ("Storage Blob Data Owner", [], [("GET", "/secrets"), ("GET", "/secrets/rbac"), ("GET", "/certificates")]),
    ],
)
async def test_roles(town: Town, role: str, allowed: list[tuple[str, str]], forbidden: list[tuple[str, str]]) -> None:
    """Each built-in role may do what Azure lets it, and no more."""
    town.contents.set_secret("rbac", "x")
    app = town.office.directory.register(App(role, azure_roles={role}))
    token = town.office.directory.issue(app.client_id, VAULT)
    for method, path in allowed:
        assert (await town.ask(method, path, token=token, json={"value": "x"})).status_code == 200
    for method, path in forbidden:
        answer = await town.ask(method, path, token=token, json={"value": "x"})
        assert (answer.status_code, answer.json()["error"]["innererror"]["code"]) == (403, "ForbiddenByRbac")


async def test_an_app_without_a_role(town: Town) -> None:
    """A good vault token of an app that has no role there is 403."""
    assert (await town.ask("GET", "/secrets", token=town.token("caller"))).status_code == 403


async def test_a_certificate_is_created(town: Town) -> None:
    """A self-signed certificate is created as a pending operation, and comes with a secret and a key of its name and version."""
    started = await town.ask("POST", "/certificates/signing/create", json={"policy": POLICY, "tags": {"of": "test"}})
    assert (started.status_code, started.json()["status"]) == (202, "inProgress")
    pending = (await town.ask("GET", "/certificates/signing/pending")).json()
    assert (pending["status"], pending["target"]) == ("completed", f"{town.url}/certificates/signing")
    bundle = (await town.ask("GET", "/certificates/signing/")).json()
    made = x509.load_der_x509_certificate(base64.b64decode(bundle["cer"]))
    version = bundle["id"].rpartition("/")[2]
    assert made.subject.rfc4514_string() == "CN=mailroom"
    assert bundle["x5t"] == encode(made.fingerprint(hashes.SHA1()))
    assert bundle["attributes"]["exp"] == int(made.not_valid_after_utc.timestamp())
    assert (bundle["sid"], bundle["kid"]) == (f"{town.url}/secrets/signing/{version}", f"{town.url}/keys/signing/{version}")
    assert bundle["policy"]["x509_props"]["validity_months"] == 6


@pytest.mark.parametrize("content_type", ["application/x-pkcs12", "application/x-pem-file"])
async def test_a_certificates_secret_signs_in(town: Town, content_type: str) -> None:
    """The secret of a certificate, PFX with an empty password or PEM, holds the key that signs in once Entra knows the certificate."""
    policy = POLICY | {"secret_props": {"contentType": content_type}}
    name = "signs-in-" + content_type.rpartition("-")[2]
    await town.ask("POST", f"/certificates/{name}/create", json={"policy": policy})
    secret = (await town.ask("GET", f"/secrets/{name}")).json()
    assert (secret["contentType"], secret["managed"]) == (content_type, True)
    if content_type.endswith("pem-file"):
        key: Any = load_pem_private_key(secret["value"].encode(), None)
    else:
        key, _, _ = pkcs12.load_key_and_certificates(base64.b64decode(secret["value"]), None)
    bundle = (await town.ask("GET", f"/certificates/{name}")).json()
    der, app = base64.b64decode(bundle["cer"]), town.office.directory.app("graph")
    town.office.directory.register_certificate(app.client_id, der)
    signer = Certificate(key, x509.load_der_x509_certificate(der))
    answer = await town.office.ask(
        client_id=app.client_id,
        client_assertion_type="urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        client_assertion=assertion(signer, app.client_id, f"{town.office.authority}/oauth2/v2.0/token"),
    )
    assert answer.status_code == 200


async def test_a_renewal_is_a_new_version(town: Town) -> None:
    """Creating again without a policy makes a new version by the old policy, and the old one stays readable."""
    await town.ask("POST", "/certificates/renewed/create", json={"policy": POLICY})
    await town.ask("POST", "/certificates/renewed/create", json={})
    versions = (await town.ask("GET", "/certificates/renewed/versions")).json()["value"]
    assert len({version["x5t"] for version in versions}) == 2
    old = versions[0]["id"].rpartition("/")[2]
    assert (await town.ask("GET", f"/secrets/renewed/{old}")).status_code == 200
    assert (await town.ask("GET", f"/certificates/renewed/{old}")).json()["x5t"] == versions[0]["x5t"]


@pytest.mark.parametrize("form", ["pfx", "pfx with password", "pem"])
async def test_a_certificate_is_imported(town: Town, form: str) -> None:
    """A PFX, with or without a password, or a PEM, which only the policy makes one, comes in and can be read back in the same form."""
    own = certificate()
    body: dict[str, Any] = {"value": own.key_pem + own.pem}
    if form != "pem":
        password = b"hidden" if "password" in form else b""
        locked = BestAvailableEncryption(password) if password else NoEncryption()
        body = {"value": base64.b64encode(pkcs12.serialize_key_and_certificates(None, own.key, own.certificate, None, locked)).decode()}
        body |= {"pwd": password.decode()} if password else {}
    name = "imported-" + form.replace(" ", "-")
    if form == "pem":
        assert (await town.ask("POST", f"/certificates/{name}/import", json=body)).status_code == 400
        body |= {"policy": {"secret_props": {"contentType": "application/x-pem-file"}}}
    imported = await town.ask("POST", f"/certificates/{name}/import", json=body)
    assert base64.b64decode(imported.json()["cer"]) == own.der
    secret = (await town.ask("GET", f"/secrets/{name}")).json()
    assert secret["contentType"] == ("application/x-pem-file" if form == "pem" else "application/x-pkcs12")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/certificates/bad/import", {"value": "AAAA"}),
        ("/certificates/bad/import", {"value": "-----BEGIN nothing"}),
        ("/certificates/bad/import", {}),
        ("/certificates/bad/create", {}),
        ("/certificates/bad/create", {"policy": POLICY | {"issuer": {"name": "DigiCert"}}}),
        ("/certificates/bad/create", {"policy": {"x509_props": {"subject": "no subject"}}}),
        ("/certificates/bad_name/create", {"policy": POLICY}),
    ],
)
async def test_bad_certificates(town: Town, path: str, body: dict[str, Any]) -> None:
    """What is no certificate with its key, no policy, or no name is 400 BadParameter, and nothing is kept."""
    answer = await town.ask("POST", path, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BadParameter")
    assert (await town.ask("GET", "/certificates/bad")).json()["error"]["code"] == "CertificateNotFound"


async def test_a_key_that_does_not_leave(town: Town) -> None:
    """Where the policy forbids export the secret holds no key, yet `sign` signs an assertion with it."""
    policy = POLICY | {"key_props": {"exportable": False}, "secret_props": {"contentType": "application/x-pem-file"}}
    await town.ask("POST", "/certificates/kept/create", json={"policy": policy})
    assert "PRIVATE KEY" not in (await town.ask("GET", "/secrets/kept")).json()["value"]
    digest = hashes.Hash(hashes.SHA256())
    digest.update(b"header.claims")
    key = (await town.ask("GET", "/keys/kept/")).json()["key"]
    body = {"alg": "PS256", "value": encode(digest.finalize())}
    signed = (await town.ask("POST", key["kid"].removeprefix(town.url) + "/sign", json=body)).json()
    number, exponent = (int.from_bytes(base64.urlsafe_b64decode(key[part] + "==")) for part in "ne")
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256().digest_size)
    public = rsa.RSAPublicNumbers(exponent, number).public_key()
    public.verify(base64.urlsafe_b64decode(signed["value"] + "=="), b"header.claims", pss, hashes.SHA256())


async def test_a_certificate_is_deleted_whole(town: Town) -> None:
    """Deleting a certificate takes its secret with it, and recovering brings both back."""
    await town.ask("POST", "/certificates/whole/create", json={"policy": POLICY})
    assert (await town.ask("DELETE", "/secrets/whole")).status_code == 400
    assert (await town.ask("PUT", "/secrets/whole", json={"value": "x"})).status_code == 403
    assert (await town.ask("DELETE", "/certificates/whole")).status_code == 200
    assert (await town.ask("GET", "/secrets/whole")).json()["error"]["code"] == "SecretNotFound"
    assert (await town.ask("POST", "/certificates/whole/create", json={"policy": POLICY})).status_code == 409
    await town.ask("POST", "/deletedcertificates/whole/recover")
    assert (await town.ask("GET", "/secrets/whole")).status_code == 200


async def test_limits_of_a_secret(town: Town) -> None:
    """A value over 25 KB, a body that is no JSON, and a missing api-version are refused; an expired secret can still be read."""
    assert (await town.ask("PUT", "/secrets/large", json={"value": "x" * 25_601})).status_code == 400
    assert (await town.ask("PUT", "/secrets/large", content=b"{")).status_code == 400
    bearer = {"Authorization": f"Bearer {town.token()}"}
    assert (await town.office.http.get(f"{town.url}/secrets", headers=bearer)).json()["error"]["code"] == "BadParameter"
    town.contents.set_secret("ended", "still", ends=int(time.time()) - 10)
    assert (await town.ask("GET", "/secrets/ended")).json()["value"] == "still"
