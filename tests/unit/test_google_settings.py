"""accounts.toml for Google: what a profile and an account may say, and what comes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailroom import settings
from mailroom.errors import BadSettings
from mailroom.model.account import Settings
from mailroom.providers import gmail

ROBOT = "mailroom@project-1.iam.gserviceaccount.com"
AUTH = '[auth.workspace]\ngrant = "jwt_bearer"\nsecret = "gmail-key"\n'
ACCOUNT = '[accounts.{name}]\nprovider = "gmail"\naddress = "{name}@example.com"\nauth = "workspace"\n'


def read(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "accounts.toml"
    path.write_text(text, "utf-8")
    return settings.read(path, {})


def mistakes(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(BadSettings) as raised:
        read(tmp_path, text)
    return raised.value.mistakes


def test_the_least_that_works(tmp_path: Path) -> None:
    """Three lines for the profile, four for a mailbox; each mailbox signs in as itself, in the scopes that it usually needs."""
    found = read(tmp_path, AUTH + ACCOUNT.format(name="billing") + ACCOUNT.format(name="support")).accounts
    assert [account.profile.subject for account in found.values()] == ["billing@example.com", "support@example.com"]
    assert found["billing"].profile.name == found["support"].profile.name == "workspace"
    scope = "https://www.googleapis.com/auth/gmail."
    assert gmail.scope(found["billing"]) == f"{scope}send {scope}readonly"
    assert found["billing"].can_be_asked


def test_an_entra_profile_has_no_mailbox_in_it(tmp_path: Path) -> None:
    """Only grants that sign in for each mailbox do so."""
    text = (
        '[auth.office]\ngrant = "client_credentials"\ntenant = "x.example"\nclient_id = "66666666-7777-8888-9999-000000000000"\n'
        'secret = "s"\n[accounts.a]\nprovider = "graph"\naddress = "a@x.example"\nauth = "office"\n'
    )
    assert read(tmp_path, text).accounts["a"].profile.subject == ""


def test_sending_alone(tmp_path: Path) -> None:
    """One permission: one scope, and nobody can be asked what was sent."""
    account = read(tmp_path, AUTH + ACCOUNT.format(name="a") + 'permissions = ["gmail.send"]\n').accounts["a"]
    assert gmail.scope(account) == "https://www.googleapis.com/auth/gmail.send"
    assert not account.can_be_asked


@pytest.mark.parametrize(
    ("auth", "account", "said"),
    [
        ('[auth.workspace]\ngrant = "jwt_bearer"\n', "", "auth.workspace.secret: missing"),
        (AUTH + 'service_account = "robot"\n', "", "auth.workspace.service_account: found no address"),
        (AUTH + 'password_secret = "not a name"\n', "", "auth.workspace.password_secret: found"),
        (AUTH + 'tenant = "x.example"\n', "", "auth.workspace.tenant: unknown key"),
        (AUTH, 'permissions = ["Mail.Send"]\n', "accounts.a.permissions: found"),
        (AUTH, 'permissions = ["gmail.readonly"]\n', "accounts.a.permissions: found no gmail.send"),
        (AUTH, 'permissions = ["gmail.send"]\nreceive = true\n', "accounts.a.permissions: found no gmail.readonly"),
        ('[auth.workspace]\ngrant = "managed_identity"\n', "", "accounts.a.auth: found a profile with grant managed_identity"),
        (
            f'[auth.workspace]\ngrant = "workload_identity"\nservice_account = "{ROBOT}"\nworkload_provider = "x"\n',
            "",
            "auth.workspace.workload_provider: found something else",
        ),
    ],
)
def test_a_mistake_is_told_where_it_is(tmp_path: Path, auth: str, account: str, said: str) -> None:
    """By its key, with what was found and what would be right."""
    [told] = mistakes(tmp_path, auth + ACCOUNT.format(name="a") + account)
    assert told.startswith(said)
    assert "; " in told
