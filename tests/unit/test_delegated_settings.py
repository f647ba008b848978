"""Profiles of people in accounts.toml, and what their accounts ask for."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from mailroom import settings, wiring
from mailroom.errors import BadSettings
from mailroom.keyring import Wanted
from mailroom.model.account import Settings

ROOT = Path(__file__).parents[2]
FILE = """
[auth.person]
grant = "{grant}"
tenant = "contoso.example"
client_id = "66666666-7777-8888-9999-000000000000"
{more}

[accounts.dora]
provider = "graph"
address = "dora@contoso.example"
auth = "person"
permissions = ["Mail.Send", "Mail.Read"]
"""
PASSWORD = 'username = "dora@contoso.example"\npassword_secret = "dora-password"'
REFRESH = 'refresh_token_secret = "dora-token"'


def read(folder: Path, grant: str, more: str) -> Settings:
    path = folder / "accounts.toml"
    path.write_text(FILE.format(grant=grant, more=more), "utf-8")
    return settings.read(path, {})


def test_the_names_of_secrets_are_known(tmp_path: Path) -> None:
    """Of the password and the refresh token as of the client's secret: the vault is asked for them, and their ends are warned of."""
    found = read(tmp_path, "password", f'{PASSWORD}\nsecret = "tool"').profiles["person"]
    assert (found.vault_secrets, dict(found.options)["username"]) == (("tool", "dora-password"), "dora@contoso.example")
    assert read(tmp_path, "refresh_token", REFRESH).profiles["person"].vault_secrets == ("dora-token",)


def test_people_consent_to_permissions_by_name(tmp_path: Path) -> None:
    """An account of a person asks for its own permissions, one of an application for all that it was granted."""
    for grant, more in (("password", PASSWORD), ("refresh_token", REFRESH)):
        account = read(tmp_path, grant, more).accounts["dora"]
        assert wiring.scope(account) == "https://graph.microsoft.com/Mail.Send https://graph.microsoft.com/Mail.Read"
    account = read(tmp_path, "client_credentials", 'secret = "tool"').accounts["dora"]
    assert wiring.scope(account) == "https://graph.microsoft.com/.default"


def test_another_user_has_another_token(tmp_path: Path) -> None:
    """In the sealed cache, where one profile's name may come to mean somebody else."""
    one = read(tmp_path, "password", PASSWORD).accounts["dora"]
    two = read(tmp_path, "password", PASSWORD.replace("dora@", "eva@")).accounts["dora"]
    assert Wanted(one.profile, "s").key != Wanted(two.profile, "s").key


WRONG = [
    ("password", PASSWORD.replace("dora-password", "Kq8-xT2v.Zp7w_Lm4n"), "auth.person.password_secret"),
    ("password", "", "auth.person.username: missing"),
    ("password", PASSWORD.replace("dora@contoso.example", "dora"), "auth.person.username"),
    ("password", f'{PASSWORD}\npassword = "x"', "auth.person.password: unknown key; a secret belongs in the vault"),
    ("password", f'{PASSWORD}\nsecret = "a"\ncertificate = "b"', "auth.person.certificate"),
    ("refresh_token", 'refresh_token_secret = "1.AXkAabCdEfGhIjKlMnOpQrStUvWxYz0123456789"', "auth.person.refresh_token_secret"),
    ("refresh_token", "", "auth.person.refresh_token_secret: missing"),
    ("refresh_token", f'{REFRESH}\nsecret = "dora-token"', "auth.person.refresh_token_secret: found the client secret's name"),
]


@pytest.mark.parametrize(("grant", "more", "said"), WRONG)
def test_what_is_wrong_is_said_and_no_secret_shown(tmp_path: Path, grant: str, more: str, said: str) -> None:
    """The key, what was found, what would be right; what looks like a secret stands in no message."""
    with pytest.raises(BadSettings) as raised:
        read(tmp_path, grant, more)
    assert said in str(raised.value)
    assert not [text for text in ("Kq8-xT2v", "AXkAabCd") if text in str(raised.value)]


@pytest.mark.parametrize("page", ["password.md", "refresh-token.md"])
def test_what_the_pages_show_loads(tmp_path: Path, page: str) -> None:
    """Whoever copies it has an account, signed in by the grant that the page is about."""
    text = (ROOT / "docs/grants" / page).read_text("utf-8")
    blocks = [textwrap.dedent(block) for block in re.findall(r"^ *```toml\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)]
    assert len(blocks) == 1
    path = tmp_path / "accounts.toml"
    path.write_text(blocks[0], "utf-8")
    [account] = settings.read(path, {}).accounts.values()
    assert account.profile.grant == page.removesuffix(".md").replace("-", "_")
