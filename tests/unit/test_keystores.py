"""Keys and certificates out of files: genuine ones, made by keytool and OpenSSL (tests/keystores/make.sh), and thousands of our own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat, pkcs12
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli.certificate import jks, keystore
from cli.certificate.entry import WrongPassword
from cli.certificate.passwords import Password
from cli.certificate.reading import values
from mailroom.errors import BadInput
from tests.contract.sandbox_town import certificate
from tests.unit.java_keystore import Key, Trusted, digest
from tests.unit.java_keystore import keystore as written

GENUINE = Path(__file__).parents[1] / "keystores"
NOW = datetime.now(UTC)
STORE, KEY = "store-pass-1", "key-pass-1"
MADE = certificate()
OTHER = certificate()
PKCS8 = MADE.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

Tell = Callable[..., Password]


@pytest.fixture
def tell(tmp_path: Path) -> Tell:
    """A password in a file; None is one that nobody told."""

    def told(value: str | None, what: str = "password") -> Password:
        if value is None:
            return Password(what, f"--{what.replace(' ', '-')}")
        file = tmp_path / what
        file.write_text(f"{value}\n", "utf-8")
        return Password(what, f"--{what.replace(' ', '-')}", file)

    return told


def taken(path: Path, store: Password, own: Password, alias: str | None = None) -> keystore.Material:
    return keystore.material(path, keystore.opened(path, store), alias, own, NOW)


def proves_itself(found: keystore.Material) -> bool:
    """The key signs and the certificate agrees."""
    signature = found.key.sign(b"mail", padding.PKCS1v15(), hashes.SHA256())
    public = found.certificate.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    public.verify(signature, b"mail", padding.PKCS1v15(), hashes.SHA256())
    return True


@pytest.mark.parametrize(
    ("file", "store", "own", "alias", "subject", "chain"),
    [
        ("two-passwords.jks", STORE, KEY, None, "billing", 1),
        ("two-passwords.jks", STORE, KEY, "BILLING", "billing", 1),
        ("secret-key.jceks", STORE, KEY, None, "billing", 1),
        ("several.jks", STORE, None, "billing", "billing", 1),
        ("several.jks", STORE, None, "Support", "support", 1),
        ("chain.jks", STORE, None, None, "billing", 2),
        ("legacy.p12", STORE, None, None, "billing", 2),
        ("legacy.p12", STORE, None, "billing", "billing", 2),
        ("no-password.p12", None, None, None, "billing", 2),
    ],
)
def test_a_genuine_keystore_gives_its_key(
    tell: Tell, file: str, store: str | None, own: str | None, alias: str | None, subject: str, chain: int
) -> None:
    """Each format that Java and OpenSSL write, with the passwords it was made with: the key that is meant, and its chain from there up."""
    found = taken(GENUINE / file, tell(store), tell(own, "key password"), alias)
    assert found.certificate.subject.rfc4514_string().lower() == f"cn={subject},o=contoso"
    assert len(found.chain) == chain
    assert proves_itself(found)
    for below, above in zip(found.chain, found.chain[1:], strict=False):
        below.verify_directly_issued_by(above)


@pytest.mark.parametrize(
    ("file", "store", "own", "alias", "code", "says"),
    [
        ("two-passwords.jks", "wrong", KEY, None, "keystore_password_wrong", "two-passwords.jks"),
        ("two-passwords.jks", STORE, "wrong", None, "keystore_key_password_wrong", "--key-password-file"),
        ("two-passwords.jks", STORE, None, None, "keystore_key_password_wrong", "'billing'"),
        ("two-passwords.jks", STORE, KEY, "support", "keystore_alias_missing", "'billing'"),
        ("secret-key.jceks", "wrong", KEY, None, "keystore_password_wrong", "secret-key.jceks"),
        ("secret-key.jceks", STORE, "wrong", None, "keystore_key_password_wrong", "'billing'"),
        ("secret-key.jceks", STORE, "wröng", None, "keystore_key_password_wrong", "'billing'"),
        ("secret-key.jceks", STORE, KEY, "sealing", "keystore_alias_missing", "'billing'"),
        ("several.jks", "wrong", None, "billing", "keystore_password_wrong", "several.jks"),
        ("several.jks", STORE, None, None, "keystore_alias_needed", "'billing', 'support', 'curve'"),
        ("several.jks", STORE, None, "nobody", "keystore_alias_missing", "'billing', 'support', 'curve'"),
        ("several.jks", STORE, None, "curve", "certificate_key_unfit", "EC 256"),
        ("curve.jks", STORE, None, None, "certificate_key_unfit", "EC 256"),
        ("weak.jks", STORE, None, None, "certificate_key_unfit", "RSA 1024"),
        ("expired.jks", STORE, None, None, "certificate_expired", "2020-12-31"),
        ("chain.jks", STORE, None, "trusted", "keystore_alias_missing", "a certificate without a private key"),
        ("trust.jks", STORE, None, None, "keystore_key_missing", "only certificates"),
        ("legacy.p12", "wrong", None, None, "keystore_password_wrong", "legacy.p12"),
        ("legacy.p12", None, None, None, "password_missing", "--password-file"),
        ("make.sh", None, None, None, "keystore_unreadable", "JKS"),
        ("nothing.jks", None, None, None, "file_unreadable", "nothing.jks"),
    ],
)
def test_what_is_wrong_has_a_code(
    tell: Tell, file: str, store: str | None, own: str | None, alias: str | None, code: str, says: str
) -> None:
    """One line that names the file, what was found and what to do; no password is in it."""
    with pytest.raises(BadInput) as refused:
        taken(GENUINE / file, tell(store), tell(own, "key password"), alias)
    told = str(refused.value)
    assert refused.value.code == code
    assert says in told
    assert "\n" not in told
    assert not [secret for secret in (STORE, KEY, "wröng") if secret in told]


def pem(*, encrypted: bool = False, traditional: bool = False, key: object = MADE, password: str = STORE) -> str:
    lock = BestAvailableEncryption(password.encode()) if encrypted else NoEncryption()
    form = PrivateFormat.TraditionalOpenSSL if traditional else PrivateFormat.PKCS8
    return str(key.key.private_bytes(Encoding.PEM, form, lock).decode())  # type: ignore[attr-defined]


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("traditional", [False, True])
@pytest.mark.parametrize("key_first", [False, True])
def test_pem_in_any_order(tmp_path: Path, tell: Tell, encrypted: bool, traditional: bool, key_first: bool) -> None:
    """PKCS #8 or OpenSSL's own, locked or not, before its certificates or after, and with other people's beside them."""
    file = tmp_path / "both.pem"
    parts = [OTHER.pem, MADE.pem, pem(encrypted=encrypted, traditional=traditional)]
    file.write_text("Bag Attributes\n    friendlyName: billing\n" + "".join(reversed(parts) if key_first else parts))
    found = taken(file, tell(STORE if encrypted else None), tell(None))
    assert found.chain == (MADE.certificate,)
    assert proves_itself(found)


@pytest.mark.parametrize(
    ("content", "store", "code"),
    [
        (pem(encrypted=True) + MADE.pem, "wrong", "keystore_password_wrong"),
        (pem(encrypted=True, traditional=True) + MADE.pem, "wrong", "keystore_password_wrong"),
        (pem(encrypted=True) + MADE.pem, "", "keystore_password_wrong"),
        (pem(encrypted=True) + MADE.pem, None, "password_missing"),
        (pem(), None, "certificate_missing"),
        (pem() + OTHER.pem, None, "certificate_missing"),
        (MADE.pem, None, "keystore_key_missing"),
        (pem() + pem(key=OTHER) + MADE.pem + OTHER.pem, None, "keystore_alias_needed"),
        (pem()[:400] + "\n-----END PRIVATE KEY-----\n" + MADE.pem, None, "keystore_damaged"),
        (pem() + MADE.pem[:300] + "\n-----END CERTIFICATE-----\n", None, "keystore_damaged"),
        (pem(key=(ended := certificate(ended=True))) + ended.pem, None, "certificate_expired"),
        (pem(key=(later := certificate(starts=timedelta(days=2)))) + later.pem, None, "certificate_not_yet_valid"),
        ("", None, "keystore_unreadable"),
    ],
)
def test_wrong_pem_has_a_code(tmp_path: Path, tell: Tell, content: str, store: str | None, code: str) -> None:
    """What is missing, cut off, locked, or out of its time."""
    file = tmp_path / "both.pem"
    file.write_text(content)
    with pytest.raises(BadInput) as refused:
        taken(file, tell(store), tell(None))
    assert refused.value.code == code


def test_a_certificate_alone_is_no_keystore(tmp_path: Path, tell: Tell) -> None:
    """A .cer in DER is known as a certificate, and that it has no key."""
    file = tmp_path / "public.cer"
    file.write_bytes(MADE.der)
    assert keystore.opened(file, tell(None)).trusted == (("", MADE.certificate),)
    with pytest.raises(BadInput, match="only certificates") as refused:
        taken(file, tell(None), tell(None))
    assert refused.value.code == "keystore_key_missing"


def test_a_key_that_is_another_ones(tmp_path: Path, tell: Tell) -> None:
    """A keystore whose key does not fit its certificate is refused, since the authority would refuse what it signs."""
    file = tmp_path / "mixed.jks"
    file.write_bytes(written([Key("billing", PKCS8, [OTHER.der], STORE)], STORE))
    with pytest.raises(BadInput) as refused:
        taken(file, tell(STORE), tell(None))
    assert refused.value.code == "certificate_mismatch"


def test_a_pfx_without_a_password(tmp_path: Path, tell: Tell) -> None:
    """Of a PFX with one key and no password the key is read, and its name."""
    file = tmp_path / "one.pfx"
    file.write_bytes(pkcs12.serialize_key_and_certificates(b"billing", MADE.key, MADE.certificate, [OTHER.certificate], NoEncryption()))
    found = keystore.opened(file, tell(None))
    assert [entry.alias for entry in found.entries] == ["billing"]
    assert found.trusted == (("", OTHER.certificate),)
    assert proves_itself(taken(file, tell(None), tell(None), "billing"))


def test_lengths_that_are_left_open(tmp_path: Path, tell: Tell) -> None:
    """BER, as Windows may write it: the end is marked instead of told."""
    file = tmp_path / "windows.pfx"
    whole = (GENUINE / "legacy.p12").read_bytes()
    assert whole[:2] == b"\x30\x82"
    file.write_bytes(b"\x30\x80" + whole[4:] + b"\0\0")
    found = taken(file, tell(STORE), tell(None), "billing")
    assert len(found.chain) == 2
    assert proves_itself(found)


PASSWORDS = st.text(max_size=30)
ALIASES = st.text(max_size=30).filter(lambda alias: len(alias.encode("utf-16")) < 60)


@settings(deadline=None, max_examples=40)
@given(store=PASSWORDS, own=PASSWORDS, alias=ALIASES, version=st.sampled_from([1, 2]), trusted=st.lists(ALIASES, max_size=2))
def test_whatever_java_wrote_is_read(store: str, own: str, alias: str, version: int, trusted: list[str]) -> None:
    """Any alias and any two passwords, of every alphabet: what went in comes out."""
    entries = [*(Trusted(name, OTHER.der) for name in trusted), Key(alias, PKCS8, [MADE.der, OTHER.der], own)]
    found = jks.contents(written(entries, store, version=version), store)
    [entry] = found.entries
    assert (entry.alias, entry.chain) == (alias, (MADE.certificate, OTHER.certificate))
    assert [name for name, _ in found.trusted] == trusted
    assert entry.unlock(own).public_key() == MADE.key.public_key()


@settings(deadline=None, max_examples=60)
@given(right=PASSWORDS, wrong=PASSWORDS, of_key=st.booleans())
def test_another_password_opens_nothing(right: str, wrong: str, of_key: bool) -> None:
    """Neither the store nor a key opens by any password but its own."""
    data = written([Key("billing", PKCS8, [MADE.der], right)], right)
    if wrong == right:
        assert jks.contents(data, wrong).entries[0].unlock(wrong)
    elif of_key:
        with pytest.raises(WrongPassword):
            jks.contents(data, right).entries[0].unlock(wrong)
    else:
        with pytest.raises(WrongPassword):
            jks.contents(data, wrong)


FILES = {path.name: path.read_bytes() for path in sorted(GENUINE.glob("*.*")) if path.suffix != ".sh"} | {
    "plain.pem": (pem() + MADE.pem).encode(),
    "public.cer": MADE.der,
}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(data=st.data())
def test_damage_is_told(tmp_path: Path, tell: Tell, data: st.DataObject) -> None:
    """Cut off, or with a byte changed, a file is refused with a code or still read; nothing else comes out of it."""
    whole = FILES[data.draw(st.sampled_from(sorted(FILES)))]
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:at] + (data.draw(st.binary(max_size=1)) + whole[at + 1 :] if data.draw(st.booleans()) else b"")
    file = tmp_path / "damaged"
    file.write_bytes(changed)
    try:
        assert keystore.opened(file, tell(STORE)).entries is not None
    except BadInput as refused:
        assert refused.code.startswith("keystore_")  # noqa: PT017 - it may be raised, or not


@settings(deadline=None)
@given(cut=st.integers(8, 2000), number=st.binary(min_size=4, max_size=4))
def test_a_signed_lie_is_no_crash(cut: int, number: bytes) -> None:
    """Even where the digest is right, a length or a kind that lies is a ValueError, and takes no memory."""
    data = (GENUINE / "secret-key.jceks").read_bytes()[:-20]
    cut = min(cut, len(data) - 4)
    body = data[:cut] + number + data[cut + 4 :]
    signed = body + digest(body, STORE)
    try:
        found = jks.contents(signed, STORE)
    except ValueError:
        return
    assert isinstance(found.entries, tuple)


def test_an_unreadable_certificate_spoils_no_key() -> None:
    """Among those that are only trusted an old one may break the rules; the private key beside it is given all the same."""
    data = written([Trusted("old", b"\x30\x03\x02\x01\x00"), Trusted("good", OTHER.der), Key("billing", PKCS8, [MADE.der], KEY)], STORE)
    found = jks.contents(data, STORE)
    assert found.trusted == (("old", None), ("good", OTHER.certificate))
    assert found.entries[0].unlock(KEY).public_key() == MADE.key.public_key()


@pytest.mark.parametrize("lie", [b"\x04\x05ab", b"\x04\x84\xff\xff\xff\xffab", b"\x04", b"\x30\x80\0\0", b"\x1f\x81\x01\0"])
def test_der_that_lies_about_its_length(lie: bytes) -> None:
    """Too long, cut off, left open, or with a tag of several bytes: a ValueError, whatever is there."""
    with pytest.raises(ValueError, match=r"to come|not read here"):
        list(values(lie))


def test_a_large_file_is_not_read(tmp_path: Path, tell: Tell) -> None:
    """What is larger than any keystore is refused before it is in memory."""
    file = tmp_path / "large.jks"
    with file.open("wb") as large:
        large.truncate(keystore.LARGEST + 1)
    with pytest.raises(BadInput) as refused:
        keystore.opened(file, tell(STORE))
    assert refused.value.code == "keystore_unreadable"


def test_nothing_shows_a_key(tell: Tell) -> None:
    """What a traceback or a log would print of them holds neither key nor password."""
    found = keystore.opened(GENUINE / "two-passwords.jks", tell(STORE))
    ready = keystore.material(GENUINE / "two-passwords.jks", found, None, tell(KEY, "key password"), NOW)
    printed = f"{found!r} {found.entries!r} {ready!r} {ready}"
    assert STORE not in printed
    assert KEY not in printed
    assert "PRIVATE" not in printed
    assert x509.Certificate.__name__ not in printed
