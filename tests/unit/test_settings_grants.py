"""accounts.toml for applications and identities: each way to sign in by itself, what contradicts itself, and what the docs show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mailroom import settings
from mailroom.errors import BadSettings

ROOT = Path(__file__).parents[2]
APP = """[auth.office]
grant = "client_credentials"
tenant = "11111111-2222-3333-4444-555555555555"
client_id = "66666666-7777-8888-9999-000000000000"
"""
OBJECT_ID = "99999999-8888-7777-6666-555555555555"
PAGES = ("client-credentials.md", "managed-identity.md")


def read(tmp_path: Path, text: str) -> settings.Settings:
    path = tmp_path / "accounts.toml"
    path.write_text(text, "utf-8")
    return settings.read(path, {})


GOOD: list[tuple[str, str, dict[str, str]]] = [
    (APP + 'certificate = "c"\nkey = "vault"', "c", {"key": "vault"}),
    (APP + f'certificate = "c"\nregister_as = "{OBJECT_ID}"', "c", {"register_as": OBJECT_ID}),
    (APP + 'certificate = "c"\nkey = "vault"\nalgorithm = "RS256"', "c", {"key": "vault"}),
    (APP + 'federated = "managed_identity"', "", {"federated": "managed_identity"}),
    ('[auth.office]\ngrant = "managed_identity"', "", {}),
    ('[auth.office]\ngrant = "managed_identity"\ncloud = "usgov"', "", {}),
]


@pytest.mark.parametrize(("text", "certificate", "options"), GOOD)
def test_ways_to_sign_in(tmp_path: Path, text: str, certificate: str, options: dict[str, str]) -> None:
    """Each loads by itself, with what only its grant knows as options."""
    profile = read(tmp_path, text).profiles["office"]
    assert (profile.certificate or "", dict(profile.options)) == (certificate, options)
    assert profile.secret is None


WRONG: list[tuple[str, str]] = [
    (APP, "certificate: missing; name a certificate of the vault here, or a secret in `secret`, or say federated"),
    (APP + 'certificate = "c"\nkey = "hsm"', 'key: found something else; should be "vault"'),
    (
        APP + 'certificate = "c"\nkey = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7"',
        'key: found something else; should be "vault"',
    ),
    (APP + 'certificate = "c"\nfederated = "managed_identity"', "federated: found beside a certificate; leave one of them out"),
    (APP + 'secret = "s"\nfederated = "managed_identity"', "federated: found beside a secret; leave one of them out"),
    (APP + 'federated = "github"', 'federated: found something else; should be "managed_identity"'),
    (APP + 'secret = "s"\nkey = "vault"', "key: found beside a secret; leave it out: only a certificate signs"),
    (APP + 'federated = "managed_identity"\nkey = "vault"', "key: found without a certificate; leave it out"),
    (APP + f'secret = "s"\nregister_as = "{OBJECT_ID}"', "register_as: found beside a secret; leave it out: only certificates register"),
    (APP + 'certificate = "c"\nregister_as = "me"', 'register_as: found "me"; should be a GUID'),
    ('[auth.office]\ngrant = "managed_identity"\nclient_id = "x"', "client_id: unknown key"),
    ('[auth.office]\ngrant = "managed_identity"\nsecret = "hunter2"', "secret: unknown key; a secret belongs in the vault"),
]


@pytest.mark.parametrize(("text", "told"), WRONG)
def test_what_contradicts_itself(tmp_path: Path, text: str, told: str) -> None:
    """One mistake, one line: which key, what was found and what would be right, and never a secret."""
    with pytest.raises(BadSettings) as wrong:
        read(tmp_path, text)
    [line] = wrong.value.mistakes
    assert line.startswith(f"auth.office.{told}"), line
    assert "MIIEvQ" not in line


@pytest.mark.parametrize("page", PAGES)
def test_what_the_docs_show_loads(tmp_path: Path, page: str) -> None:
    """Every piece of TOML on the pages of these grants is sound as it stands, in ten lines or a little more."""
    shown = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "grants" / page).read_text("utf-8"), re.DOTALL)
    assert shown
    for text in shown:
        assert read(tmp_path, text).profiles
        assert len(text.splitlines()) <= 13
