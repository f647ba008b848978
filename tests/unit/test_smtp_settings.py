"""accounts.toml for SMTP: where an account's mails go, what its tokens are for, and what it may not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailroom import settings
from mailroom.errors import BadSettings
from mailroom.model.account import Account
from mailroom.providers import _smtp_servers as servers
from mailroom.providers import relay, smtp

AUTH = (
    '[auth.office]\ngrant = "client_credentials"\ntenant = "x.example"\nclient_id = "66666666-7777-8888-9999-000000000000"\nsecret = "s"\n'
)
GOOGLE = '[auth.office]\ngrant = "jwt_bearer"\nsecret = "key"\n'
SMTP = '[accounts.a]\nprovider = "smtp"\naddress = "a@x.example"\nauth = "office"\n'
RELAY = '[accounts.a]\nprovider = "relay"\naddress = "a@x.example"\n'


def read(tmp_path: Path, text: str) -> Account:
    path = tmp_path / "accounts.toml"
    path.write_text(text, "utf-8")
    return settings.read(path, {}).accounts["a"]


def mistakes(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(BadSettings) as raised:
        read(tmp_path, text)
    return raised.value.mistakes


def test_exchange_is_the_usual_one(tmp_path: Path) -> None:
    """Four lines: Exchange's host, scope and limits; it can't be asked, and three connections share a mailbox."""
    account = read(tmp_path, AUTH + SMTP)
    assert str(servers.server(account)) == "smtp.office365.com:587"
    assert smtp.scope(account) == "https://outlook.office365.com/.default"
    assert smtp.delegated_scope(account) == "https://outlook.office365.com/SMTP.Send"
    assert (account.rate, account.traits.in_flight, account.traits.slice_weight, account.can_be_asked) == (30.0, 3, 1, False)
    assert account.permissions == frozenset()


@pytest.mark.parametrize(
    ("preset", "host", "scope", "largest", "recipients", "rate"),
    [
        ("hve", "smtp.hve.mx.microsoft:587", "https://outlook.office.com/.default", 10_485_760, 50, 600.0),
        ("gmail", "smtp.gmail.com:587", "https://mail.google.com/", 35_882_577, 500, 60.0),
        ("exchange", "smtp.office365.com:587", "https://outlook.office365.com/.default", 157_286_400, 500, 30.0),
    ],
)
def test_presets(tmp_path: Path, preset: str, host: str, scope: str, largest: int, recipients: int, rate: float) -> None:
    """One word for host, scope, limits and pace; each can still be said otherwise."""
    auth = GOOGLE if preset == "gmail" else AUTH
    account = read(tmp_path, f'{auth}{SMTP}preset = "{preset}"\n')
    server = servers.server(account)
    assert (str(server), smtp.scope(account), server.largest, server.recipients, account.rate) == (host, scope, largest, recipients, rate)
    other = read(tmp_path, f'{auth}{SMTP}preset = "{preset}"\nhost = "mx.example:465"\nscope = "s"\nrate = 7\n')
    assert (str(servers.server(other)), servers.server(other).at_once, smtp.scope(other), other.rate) == ("mx.example:465", True, "s", 7.0)


def test_another_clouds_exchange(tmp_path: Path) -> None:
    """The profile's cloud says where Exchange is."""
    account = read(tmp_path, AUTH.replace('secret = "s"\n', 'secret = "s"\ncloud = "usgov"\n') + SMTP)
    assert (str(servers.server(account)), smtp.scope(account)) == ("smtp.office365.us:587", "https://outlook.office365.us/.default")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('preset = "exchang"', "accounts.a.preset: found 'exchang'; should be one of exchange, gmail, hve"),
        ('mechanism = "login"', "accounts.a.mechanism: found 'login'; should be one of oauthbearer, xoauth2"),
        ('host = "smtp://x.example"', "accounts.a.host: found 'smtp://x.example'; should be HOST or HOST:PORT"),
        ('host = "x.example:99999"', "accounts.a.host: found 'x.example:99999'; should be HOST or HOST:PORT"),
        ('from = "No Reply"', "accounts.a.from: found 'No Reply'; should be an address"),
        ("receive = true", "accounts.a.receive: found true; leave it out: smtp only sends"),
        ('client_certificate = "c"', "accounts.a.client_certificate: unknown key"),
        ('permissions = ["Mail.Send"]', "accounts.a.permissions: unknown key"),
    ],
)
def test_what_an_account_may_not_say(tmp_path: Path, line: str, said: str) -> None:
    """Each mistake names its key, what was found and what would be right."""
    [mistake] = mistakes(tmp_path, f"{AUTH}{SMTP}{line}\n")
    assert mistake.startswith(said)


@pytest.mark.parametrize(
    ("auth", "account", "who"),
    [
        (GOOGLE, SMTP, "should be one with another grant, such as client_credentials: Entra ID signs in"),
        (GOOGLE, SMTP.replace("smtp", "graph"), "should be one with another grant, such as client_credentials: Entra ID signs in"),
        (AUTH, SMTP + 'preset = "gmail"\n', "should be one with grant jwt_bearer or workload_identity: Google signs in"),
        (AUTH, SMTP.replace("smtp", "gmail"), "should be one with grant jwt_bearer or workload_identity: Google signs in"),
    ],
)
def test_who_signs_in_must_be_the_providers_authority(tmp_path: Path, auth: str, account: str, who: str) -> None:
    """Tokens of the other one would be refused with the first mail; a server with a scope of its own may take either's."""
    [mistake] = mistakes(tmp_path, auth + account)
    assert mistake.startswith("accounts.a.auth: found a profile with grant ")
    assert mistake.endswith(who)
    assert read(tmp_path, GOOGLE + SMTP + 'host = "mx.example"\nscope = "s"\n').profile.grant == "jwt_bearer"


def test_a_relay_signs_in_nowhere(tmp_path: Path) -> None:
    """It has no auth, and must say where it is; the port is 25 unless it says so."""
    account = read(tmp_path, RELAY + 'host = "x-example.mail.protection.outlook.com"\n')
    assert str(servers.server(account, port=relay.PORT)) == "x-example.mail.protection.outlook.com:25"
    assert (account.profile.grant, account.traits.signs_in, account.rate) == ("none", False, 600.0)
    assert mistakes(tmp_path, RELAY) == ["accounts.a.host: missing; should be a text"]
    [told] = mistakes(tmp_path, AUTH + RELAY + 'host = "h"\nauth = "office"\n')
    assert told.startswith("accounts.a.auth: unknown key")


def test_no_profile_is_none(tmp_path: Path) -> None:
    """Who writes a profile without a sign-in is told that accounts without one need no profile."""
    [told] = mistakes(tmp_path, '[auth.n]\ngrant = "none"\n' + RELAY + 'host = "h"\n')
    assert told.startswith("auth.n.grant: found none; leave the profile out")
