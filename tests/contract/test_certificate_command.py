"""`mailroom certificate` as a person runs it: against the sandbox's vault, with genuine keystores, and what it made signs in at Entra."""

from __future__ import annotations

import base64
import hashlib
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key, pkcs12

from tests.contract.certificate_place import KEY, STORE, Command, Ended
from tests.contract.sandbox_azure import NAME, SCOPE, Azure, azure
from tests.contract.sandbox_town import certificate

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

GENUINE = Path(__file__).parents[1] / "keystores"
OFFICER = ("Key Vault Certificates Officer", "Key Vault Secrets User", "Key Vault Crypto User")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sky(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Azure]:
    async with azure(tmp_path_factory.mktemp("azure")) as running:
        yield running


@pytest.fixture
def place(sky: Azure) -> Azure:
    place = sky.fresh()
    place.identity.azure_roles = set(OFFICER)
    return place


@pytest.fixture
def run(place: Azure, tmp_path: Path) -> Command:
    return Command(place, tmp_path)


def done(ended: Ended) -> Ended:
    assert (ended.status, ended.err) == (0, ""), ended
    assert "PRIVATE" not in ended.out
    assert not [secret for secret in (STORE, KEY) if secret in ended.out]
    return ended


def refused(ended: Ended, code: str) -> str:
    """One line on stderr, with the code; nothing on stdout."""
    assert (ended.status, ended.out) == (1, ""), ended
    assert ended.err.startswith(f"mailroom: {code}: ")
    assert ended.err.count("\n") == 1
    assert not [secret for secret in (STORE, KEY) if secret in ended.err]
    return ended.err


async def test_made_in_the_vault_exported_registered_and_used(place: Azure, run: Command) -> None:
    """From nothing to a token: the key is made where it stays, its .cer goes to the application, and the vault signs in with it."""
    made = done(await run("make", NAME, "--subject", "CN=mailroom,O=Contoso", "--months", "24", "--key-size", "3072"))
    assert 'key = "vault"' in made.out
    to = run.folder / "mailroom.cer"
    exported = done(await run("export", NAME, "--to", to))
    der = to.read_bytes()
    assert made.fact("SHA-1") == exported.fact("SHA-1") == hashlib.sha1(der).hexdigest()
    place.directory.register_certificate(place.app.client_id, der)
    assert (await place.credential().ask(SCOPE)).value
    [kept] = place.contents.certificates.versions(NAME)
    assert kept.certificate.public_bytes(Encoding.DER) == der
    assert kept.certificate.subject.rfc4514_string() == "CN=mailroom,O=Contoso"
    assert kept.key.key_size == 3072
    assert kept.policy["key_props"]["exportable"] is False
    assert kept.policy["issuer"]["name"] == "Self"
    assert [action["action"]["action_type"] for action in kept.policy["lifetime_actions"]] == ["EmailContacts"]
    assert 700 < (kept.certificate.not_valid_after_utc - kept.certificate.not_valid_before_utc).days < 740


async def test_a_new_version_is_like_the_one_before(place: Azure, run: Command) -> None:
    """Rotation changes the key and nothing else unless told to: a profile that reads its key still can."""
    done(await run("make", NAME, "--exportable", "--key-size", "4096", "--subject", "CN=a", "--auto-renew"))
    done(await run("make", NAME, "--months", "6"))
    done(await run("make", NAME, "--not-exportable", "--no-auto-renew"))
    first, second, third = place.contents.certificates.versions(NAME)
    assert [one.key.key_size for one in (first, second, third)] == [4096] * 3
    assert [one.policy["key_props"]["exportable"] for one in (first, second, third)] == [True, True, False]
    assert [one.policy["lifetime_actions"][0]["action"]["action_type"] for one in (first, second, third)] == [
        "AutoRenew",
        "AutoRenew",
        "EmailContacts",
    ]
    assert [one.policy["x509_props"]["validity_months"] for one in (first, second, third)] == [12, 6, 6]
    assert {one.certificate.subject.rfc4514_string() for one in (first, second, third)} == {"CN=a"}
    assert len({one.key.public_key().public_numbers().n for one in (first, second, third)}) == 3


async def test_show_tells_all_versions(place: Azure, run: Command) -> None:
    """Thumbprints of the newest in all three forms, and one line for each version, the newest first; an older one is shown by its id."""
    old, new = place.new_version(), place.new_version(exportable=False)
    for version in (old, new):
        place.contents.certificates.find(NAME, version).created = 1_700_000_000  # in the same second
    shown = done(await run("show", NAME))
    der = place.contents.certificates.find(NAME, new).certificate.public_bytes(Encoding.DER)
    x5t, x5t256 = (base64.urlsafe_b64encode(hashlib.new(kind, der).digest()).rstrip(b"=").decode() for kind in ("sha1", "sha256"))
    assert (shown.fact("x5t"), shown.fact("x5t#S256")) == (x5t, x5t256)
    assert (shown.fact("SHA-1"), shown.fact("SHA-256")) == (hashlib.sha1(der).hexdigest(), hashlib.sha256(der).hexdigest())
    assert shown.fact("serial") == f"{place.contents.certificates.find(NAME, new).certificate.serial_number:x}"
    assert "9 days left" in shown.fact("not after")
    assert "can't be exported" in shown.out
    versions = [line for line in shown.out.splitlines() if "  made " in line]
    assert [new in versions[0], old in versions[1], versions[0].endswith("the newest"), "newest" in versions[1]] == [
        True,
        True,
        True,
        False,
    ]
    older = done(await run("show", NAME, "--version", old))
    assert older.fact("SHA-1") == place.contents.certificates.find(NAME, old).certificate.fingerprint(hashes.SHA1()).hex()


async def test_list_shows_every_end(place: Azure, run: Command) -> None:
    """All pages of it, what ends first comes first, and what has ended says so."""
    for number in range(30):
        signed = certificate()
        policy = {"key_props": {"exportable": False}, "secret_props": {"contentType": "application/x-pem-file"}}
        place.contents.add_certificate(f"fine-{number}", signed.key, signed.certificate, policy)
    signed = certificate(ended=True)
    place.contents.add_certificate("gone", signed.key, signed.certificate, policy, enabled=False)
    lines = done(await run("list")).out.splitlines()
    assert len(lines) == 31
    assert lines[0].startswith("gone ")
    assert "expired 1 days ago, disabled" in lines[0]
    assert all("9 days left: make a new version" in line for line in lines[1:])


@pytest.mark.parametrize(
    ("file", "own", "alias"),
    [("two-passwords.jks", KEY, "billing"), ("secret-key.jceks", KEY, None), ("several.jks", None, "support"), ("legacy.p12", None, None)],
)
async def test_a_genuine_keystore_signs_in(place: Azure, run: Command, file: str, own: str | None, alias: str | None) -> None:
    """Imported by its passwords, it is the vault's: the key cannot be read there, and Entra takes what it signs."""
    options: list[str | Path] = ["--password-env", "STORE_PASSWORD"]
    options += ["--alias", alias] if alias else []
    options += ["--key-password-file", run.password(own)] if own else []
    imported = done(await run("import", GENUINE / file, NAME, *options, STORE_PASSWORD=STORE))
    [kept] = place.contents.certificates.versions(NAME)
    assert imported.fact("SHA-1") == kept.certificate.fingerprint(hashes.SHA1()).hex()
    assert kept.policy["key_props"]["exportable"] is False
    assert "PRIVATE" not in place.contents.secrets.find(NAME).value
    place.register(kept.version)
    assert (await place.credential().ask(SCOPE)).value


async def test_an_exportable_import_can_be_read_again(place: Azure, run: Command) -> None:
    """A profile that reads its key can do so, and the key is the keystore's."""
    done(await run("import", GENUINE / "chain.jks", NAME, "--password-file", run.password(STORE), "--exportable"))
    value = place.contents.secrets.find(NAME).value
    key = load_pem_private_key(value.encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.public_key() == place.contents.certificates.find(NAME).certificate.public_key()


@pytest.mark.parametrize(
    ("file", "options", "code", "says"),
    [
        ("two-passwords.jks", {"STORE": "wrong"}, "keystore_password_wrong", "two-passwords.jks"),
        ("two-passwords.jks", {"OWN": "wrong"}, "keystore_key_password_wrong", "billing"),
        ("several.jks", {}, "keystore_alias_needed", "'billing', 'support', 'curve'"),
        ("several.jks", {"ALIAS": "nobody"}, "keystore_alias_missing", "'billing', 'support', 'curve'"),
        ("several.jks", {"ALIAS": "curve"}, "certificate_key_unfit", "EC 256"),
        ("weak.jks", {}, "certificate_key_unfit", "RSA 1024"),
        ("expired.jks", {}, "certificate_expired", "2020-12-31"),
        ("trust.jks", {}, "keystore_key_missing", "only certificates"),
        ("make.sh", {}, "keystore_unreadable", "JKS"),
        ("absent.jks", {}, "file_unreadable", "absent.jks"),
    ],
)
async def test_what_is_wrong_changes_nothing(place: Azure, run: Command, file: str, options: dict[str, str], code: str, says: str) -> None:
    """Told in one line with its code, exit status 1, and the vault was not even asked."""
    asked = place.faults.add({"service": "vault", "delay": 0})
    given = ["--password-env", "STORE", "--key-password-env", "OWN", *(["--alias", options["ALIAS"]] if "ALIAS" in options else [])]
    told = refused(await run("import", GENUINE / file, NAME, *given, **({"STORE": STORE, "OWN": KEY} | options)), code)
    assert says in told
    assert asked.hits == 0
    assert not place.contents.certificates.versions(NAME)


async def test_made_here_then_imported(place: Azure, run: Command) -> None:
    """PFX and PEM hold one key, locked, and only their owner reads them; the import of either is the certificate that was made."""
    keys = run.folder / "keys"
    made = done(await run("make", NAME, "--local", keys, "--generate-password", "--months", "1"))
    password = (keys / f"{NAME}.password").read_text()
    assert password not in made.out
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()}
    assert modes == {f"{NAME}.{kind}": 0o600 for kind in ("pfx", "pem", "password")} | {f"{NAME}.cer": 0o644 & ~_umask(keys)}
    key, found, _ = pkcs12.load_key_and_certificates((keys / f"{NAME}.pfx").read_bytes(), password.encode())
    assert found is not None
    assert found.public_bytes(Encoding.DER) == (keys / f"{NAME}.cer").read_bytes()
    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.private_numbers() == load_pem_private_key((keys / f"{NAME}.pem").read_bytes(), password.encode()).private_numbers()  # type: ignore[union-attr]
    for kind in ("pfx", "pem"):
        done(await run("import", keys / f"{NAME}.{kind}", NAME, "--password-file", keys / f"{NAME}.password"))
    assert [one.certificate for one in place.contents.certificates.versions(NAME)] == [found, found]
    assert done(await run("show", keys / f"{NAME}.cer")).fact("x5t") == made.fact("x5t")


def _umask(folder: Path) -> int:
    probe = folder.parent / "probe"
    probe.touch(0o777)
    return 0o777 & ~stat.S_IMODE(probe.stat().st_mode)


async def test_nothing_is_written_over(place: Azure, run: Command) -> None:
    """Where one of the files is there already none is made and none is changed; of an export too."""
    keys = run.folder / "keys"
    keys.mkdir()
    (keys / f"{NAME}.cer").write_text("mine")
    refused(await run("make", NAME, "--local", keys, "--generate-password"), "file_exists")
    place.new_version()
    refused(await run("export", NAME, "--to", keys / f"{NAME}.cer"), "file_exists")
    assert [path.name for path in keys.iterdir()] == [f"{NAME}.cer"]
    assert (keys / f"{NAME}.cer").read_text() == "mine"


async def test_files_are_shown_and_exported_too(run: Command) -> None:
    """A keystore tells all its entries; what is exported as .pem is PEM, and of the entry that was named."""
    store = run.password(STORE)
    shown = done(await run("show", GENUINE / "several.jks", "--password-file", store))
    assert [line for line in shown.out.splitlines() if line.startswith("several.jks")] == [
        f"several.jks, {alias!r}: a private key" for alias in ("billing", "support", "curve")
    ]
    assert "EC 256" in shown.out
    to = run.folder / "support.pem"
    done(await run("export", GENUINE / "several.jks", "--alias", "support", "--to", to, "--password-file", store))
    assert x509.load_pem_x509_certificate(to.read_bytes()).subject.rfc4514_string() == "CN=support,O=Contoso"
    refused(await run("export", GENUINE / "several.jks", "--to", run.folder / "x.cer", "--password-file", store), "keystore_alias_needed")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["import", "a.jks", NAME, "--password", "hunter2"], "--password is no argument"),
        (["import", "a.jks", NAME, "--password=hunter2"], "--password is no argument"),
        (["import", "a.jks", NAME, "--key-password", "hunter2"], "--key-password is no argument"),
        (["make", NAME, "--key-size", "1024"], "2048, 3072, 4096"),
        (["make", "no_good"], "'no_good' is no name of Key Vault"),
        (["make", NAME, "--months", "0"], "'0' is no number of months"),
        (["make", NAME, "--subject", "mailroom"], "'mailroom' is no distinguished name"),
        (["make", NAME, "--exportable", "--not-exportable"], "not allowed with"),
        (["show"], "required: NAME|FILE"),
        ([], "required: COMMAND"),
    ],
)
async def test_wrong_arguments(run: Command, arguments: list[str], says: str) -> None:
    """One line and status 2; a password among the arguments is turned away, and not repeated."""
    ended = await run(*arguments)
    assert (ended.status, ended.out) == (2, "")
    assert says in ended.err
    assert ended.err.count("\n") == 1
    assert "hunter2" not in ended.err


async def test_no_terminal_and_no_password(run: Command) -> None:
    """Nobody is asked where nobody is: the error names the options that tell it."""
    told = refused(await run("import", GENUINE / "weak.jks", NAME), "password_missing")
    assert "--password-file or --password-env" in told
    refused(await run("import", GENUINE / "weak.jks", NAME, "--password-env", "NOT_SET"), "password_missing")
    refused(await run("import", GENUINE / "weak.jks", NAME, "--password-file", run.folder), "password_missing")
    refused(await run("make", NAME, "--local", run.folder), "password_missing")
    refused(await run("make", NAME, "--local", run.folder, "--password-env", "EMPTY", EMPTY=""), "password_empty")


async def test_what_is_for_the_vault_alone(run: Command) -> None:
    """Options that would do nothing are turned away instead of being forgotten."""
    refused(await run("make", NAME, "--local", run.folder, "--generate-password", "--exportable"), "argument_unfit")
    refused(await run("make", NAME, "--generate-password"), "argument_unfit")


async def test_who_may_not(place: Azure, run: Command) -> None:
    """The role that is missing is named; a certificate that is not there, or was deleted, is told as such."""
    refused(await run("show", NAME), "vault_certificate_missing")
    place.new_version()
    place.contents.delete_certificate(NAME)
    assert "az keyvault certificate recover" in refused(await run("make", NAME), "vault_certificate_deleted")
    with place.roles("Key Vault Certificate User"):
        assert "'Key Vault Certificates Officer'" in refused(await run("make", "another"), "vault_forbidden")


async def test_without_a_vault(run: Command) -> None:
    """The setting that is missing is named."""
    ended = await run("list", MAILROOM_VAULT_URL="")
    assert ended.status == 1
    assert "MAILROOM_VAULT_URL" in ended.out
