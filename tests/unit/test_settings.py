"""accounts.toml and the environment: what is read, and what is said of every mistake."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom import settings
from mailroom.errors import BadSettings
from mailroom.model.account import Settings, Storage
from mailroom.settings.clouds import CLOUDS
from mailroom.settings.table import looks_secret

ROOT = Path(__file__).parents[2]
TENANT = "11111111-2222-3333-4444-555555555555"
CLIENT = "66666666-7777-8888-9999-000000000000"

AUTH = f'[auth.office]\ngrant = "client_credentials"\ntenant = "{TENANT}"\nclient_id = "{CLIENT}"\n'
GOOD = (
    AUTH
    + """certificate = "mailroom-graph"
[accounts.billing]
provider = "graph"
address = "billing@example.com"
auth = "office"
"""
)


def read(tmp_path: Path, text: str, **env: str) -> Settings:
    path = tmp_path / "accounts.toml"
    path.write_text(text, "utf-8")
    return settings.read(path, env)


def mistakes(tmp_path: Path, text: str, **env: str) -> list[str]:
    with pytest.raises(BadSettings) as raised:
        read(tmp_path, text, **env)
    return raised.value.mistakes


def test_the_example_loads_with_no_environment() -> None:
    """A fresh clone starts: the example is sound, and what the environment does not say is simply not there."""
    path = settings.locate(ROOT, {"MAILROOM_ACCOUNTS": "accounts.example.toml"})
    found = settings.read(path, {})
    assert found.accounts["billing"].profile.certificate == "mailroom-graph"
    assert (found.storage, found.vault_url) == (None, None)
    assert found.api is not None


def test_every_line_of_the_example_is_true(tmp_path: Path) -> None:
    """What stands there as a comment loads as well, so that nobody uncomments a mistake."""
    lines = (ROOT / "accounts.example.toml").read_text("utf-8").splitlines()
    told = [line.removeprefix("# ") for line in lines if " = " in line or line.removeprefix("# ").startswith("[")]
    left_out = ("certificate =", "algorithm =", "key =", "register_as =", "federated =")  # or else it is a secret that signs
    kept = [line for line in told if not line.startswith(left_out)]
    found = read(tmp_path, _sections(kept))
    assert found.accounts["billing"].since == datetime(2026, 11, 1, tzinfo=UTC)
    assert found.profiles["office"].cloud == CLOUDS["usgov"]
    assert found.timing == type(found.timing)()
    assert found.schedules == type(found.schedules)()


def _sections(lines: list[str]) -> str:
    """Top-level keys first, as TOML wants them."""
    return "\n".join(sorted(lines, key=lambda line: not line.startswith("keep_days")))


def test_accounts_toml_wins_over_the_example(tmp_path: Path) -> None:
    """MAILROOM_ACCOUNTS first, then accounts.toml beside function_app.py, then the example."""
    assert settings.locate(tmp_path, {}) == tmp_path / "accounts.example.toml"
    (tmp_path / "accounts.toml").touch()
    assert settings.locate(tmp_path, {}) == tmp_path / "accounts.toml"
    assert settings.locate(tmp_path, {"MAILROOM_ACCOUNTS": "other.toml"}) == tmp_path / "other.toml"
    assert settings.locate(tmp_path, {"MAILROOM_ACCOUNTS": "/etc/mail.toml"}) == Path("/etc/mail.toml")


def test_many_accounts_share_a_profile(tmp_path: Path) -> None:
    """Names with dots and @ are names; profile, rate, policy and permissions come through."""
    more = (
        '[accounts."ann@example.com"]\nprovider = "graph"\naddress = "ann@example.com"\nauth = "office"\nrate = 60\nin_doubt = "resend"\n'
        "recipients_a_day = 500\n"
    )
    found = read(tmp_path, GOOD + more + 'permissions = ["Mail.Send"]\n')
    ann = found.accounts["ann@example.com"]
    assert ann.profile is found.accounts["billing"].profile
    assert (ann.rate, ann.recipients_a_day, ann.in_doubt, ann.can_be_asked) == (60.0, 500, "resend", False)
    assert found.accounts["billing"].recipients_a_day == 10_000
    assert hash(ann)  # wiring keeps senders by account


@pytest.mark.parametrize("name", CLOUDS)
def test_national_clouds_by_name(tmp_path: Path, name: str) -> None:
    """A profile in a national cloud has all of that cloud's endpoints, and tokens for its Graph only."""
    found = read(tmp_path, f'cloud = "{name}"\n' + GOOD)
    cloud = found.profiles["office"].cloud
    assert cloud == found.cloud == CLOUDS[name]
    assert cloud.graph_scope == cloud.graph.removesuffix("v1.0") + ".default"


def test_a_cloud_of_ones_own(tmp_path: Path) -> None:
    """Every endpoint can be overridden; what is not said comes from the base, and without a base must be said."""
    cloud = (
        '[clouds.town]\nauthority = "https://localhost:1"\ngraph = "http://127.0.0.1:2/v1.0"\nvault_resource = "https://vault.azure.net"\n'
    )
    found = read(tmp_path, GOOD.replace("[accounts", 'cloud = "town"\n[accounts') + cloud)
    town = found.profiles["office"].cloud
    assert (town.authority, town.graph_scope) == ("https://localhost:1", "http://127.0.0.1:2/.default")
    based = read(
        tmp_path, GOOD.replace("[accounts", 'cloud = "town"\n[accounts') + '[clouds.town]\nbase = "china"\ngraph = "https://g.cn/v1.0"'
    )
    assert based.profiles["office"].cloud == msgspec.structs.replace(CLOUDS["china"], graph="https://g.cn/v1.0")
    assert mistakes(tmp_path, GOOD + "[clouds.town]\n") == [
        "clouds.town.authority: missing; should be https://HOST without a tenant and without a slash at its end",
        "clouds.town.graph: missing; should be https://HOST/v1.0",
        "clouds.town.vault_resource: missing; should be https://HOST without a slash at its end",
    ]


def test_every_mistake_at_once(tmp_path: Path) -> None:
    """A wrong file is told all that is wrong with it: key path, what was found, what would be right."""
    found = mistakes(
        tmp_path,
        "keep_dys = 3\n"
        + AUTH.replace(TENANT, "no tenant").replace("client_id", "clientid")
        + '[accounts.billing]\nprovider = "grpah"\naddress = "billing"\nauth = "ofice"\nrate = 0\n'
        + '[callers.shop]\nclient_id = "x"\naccounts = ["biling"]\noperations = ["sendd"]\n',
        MAILROOM_VAULT_URL="vault",
    )
    assert [line.partition(":")[0] for line in found] == [
        "MAILROOM_VAULT_URL",
        "auth.office.tenant",
        "auth.office.client_id",
        "auth.office.clientid",
        "auth.office.certificate",
        "accounts.billing.provider",
        "accounts.billing.address",
        "accounts.billing.auth",
        "accounts.billing.rate",
        "callers.shop.client_id",
        "callers.shop.accounts",
        "callers.shop.operations",
        "keep_dys",
    ]
    assert 'accounts.billing.address: found "billing"; should be an address with a domain, such as billing@example.com' in found
    assert 'accounts.billing.provider: found "grpah"; did you mean graph?' in found
    assert "keep_dys: unknown key; did you mean keep_days?" in found


WRONG: list[tuple[str, str]] = [
    ('[auth.a]\ngrant = "client_credential"\n', 'auth.a.grant: found "client_credential"; did you mean client_credentials?'),
    ("[auth.a]\n", "auth.a.grant: missing; should be one of client_credentials"),
    (AUTH, "auth.office.certificate: missing; name a certificate of the vault here, or a secret in `secret`"),
    (AUTH + 'secret = "s"\ncertificate = "c"', "auth.office.certificate: found beside a secret; name either a secret or a certificate"),
    (AUTH + 'secret = "s"\nalgorithm = "RS256"', "auth.office.algorithm: found beside a secret; leave it out: only a certificate signs"),
    (AUTH + 'certificate = "c"\nalgorithm = "none"', 'auth.office.algorithm: found "none"; should be one of PS256, RS256'),
    (
        AUTH.replace(TENANT, "common") + 'secret = "s"',
        'auth.office.tenant: found "common"; should be the tenant\'s GUID or one of its domains',
    ),
    (AUTH.replace(CLIENT, "me") + 'secret = "s"', 'auth.office.client_id: found "me"; should be a GUID'),
    (AUTH + 'certificate = "c"\ncertifcate = "d"', "auth.office.certifcate: unknown key; did you mean certificate?"),
    (AUTH + 'certificate = "c"\npassword = "hunter2"', "auth.office.password: unknown key; a secret belongs in the vault"),
    (GOOD + "rate = true", "accounts.billing.rate: found true; should be a number from 0.1 to 1000000"),
    (GOOD + "recipients_a_day = -1", "accounts.billing.recipients_a_day: found -1; should be a number from 0 to 1000000000"),
    (GOOD + "rate = 1e9", "accounts.billing.rate: found 1000000000.0; should be a number"),
    (GOOD + 'send = "yes"', 'accounts.billing.send: found "yes"; should be true or false, without quotes'),
    (GOOD + 'in_doubt = "drop"', 'accounts.billing.in_doubt: found "drop"; should be one of hold, resend'),
    (GOOD + 'permissions = ["Mail.Sent"]', 'accounts.billing.permissions: found "Mail.Sent"; did you mean Mail.Send?'),
    (GOOD + 'permissions = ["Mail.Read"]', "accounts.billing.permissions: found no Mail.Send; add it, or say send = false"),
    (GOOD + 'receive = true\npermissions = ["Mail.Send"]', "accounts.billing.permissions: found no Mail.Read; add it"),
    (GOOD + "permissions = []", "accounts.billing.permissions: found []; should be a list of Mail.Read"),
    (GOOD + 'since = "2026-11-01"', 'accounts.billing.since: found "2026-11-01"; should be a date or date and time without quotes'),
    (GOOD + 'host = "smtp"', "accounts.billing.host: unknown key; known keys: "),
    (
        GOOD + '[accounts.b]\nprovider = "graph"\naddress = "Billing@Example.com"\nauth = "office"',
        "accounts.b.address: found Billing@Example.com",
    ),
    (GOOD + '[accounts."a/b"]\nprovider = "graph"\naddress = "a@b.example"\nauth = "office"', 'accounts."a/b": found this name; should be'),
    ("accounts = 3\n" + AUTH + 'secret = "s"', "accounts: found 3; should be a table: [accounts]"),
    ("[accounts]\na = 3", "accounts.a: found 3; should be a table: [accounts.NAME]"),
    (f'[callers.a]\nclient_id = "{CLIENT}"\naccounts = ["*"]', "callers.a.operations: missing; should be a list of manage, read, send"),
    (f'[callers.a]\nclient_id = "{CLIENT}"\naccounts = ["x"]\noperations = ["send"]', 'callers.a.accounts: found "x"; should be one of'),
    ('[api]\ntenant = "x.example"', "api.audience: missing; should be a list of texts"),
    ('[api]\ntenant = "x.example"\naudience = "api://m"\ncloud = "usgv"', 'api.cloud: found "usgv"; did you mean usgov?'),
    ("[timing]\nclaim = 5\ncall = 5", "timing.claim: found 5; should be more than timing.call (5)"),
    ("[timing]\ngrace = -1", "timing.grace: found -1; should be a number from 0 to"),
    ("[timing]\ngive_up = 300", "timing.give_up: found 300; should be more than timing.claim and timing.grace together (480)"),
    ('[schedules]\nsync = "* * * * *"', 'schedules.sync: found "* * * * *"; should be six fields: second minute hour day month weekday'),
    ("keep_days = 1", "keep_days: found 1; should be a number from 2 to 3660"),
    ("[clouds.public]", 'clouds.public: found the name of a known cloud; choose another name, with base = "public"'),
    ('[clouds.a]\nbase = "public"\nauthority = "http://x"', 'clouds.a.authority: found "http://x"; should be https://HOST'),
    ("= 3", "not TOML: "),
]


@pytest.mark.parametrize(("text", "line"), WRONG)
def test_a_mistake_is_told_alone(tmp_path: Path, text: str, line: str) -> None:
    """Each mistake is one line, and draws no others after it."""
    [found] = mistakes(tmp_path, text)
    assert line in found


def test_callers_are_told_apart_by_client(tmp_path: Path) -> None:
    """One application, one caller: two of the same client id are a mistake."""
    caller = f'client_id = "{CLIENT}"\naccounts = ["billing"]\noperations = ["send", "read"]\n'
    found = read(tmp_path, f"{GOOD}[callers.a]\n{caller}")
    assert found.callers["a"].operations == {"send", "read"}
    assert found.callers["a"].may_use("billing")
    assert mistakes(tmp_path, f"{GOOD}[callers.a]\n{caller}[callers.b]\n{caller}") == [
        "callers.b.client_id: found the client id of caller a too; give each application one caller"
    ]


SECRETS = [
    "abC8Q~1dk39dkDK39dkqpz9Xk2mW0sLq4Vt7Yb2R",
    "kJ3n5PqR8sT1vW4yZ7aB0cD2eF6gH9iL",
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ",
    "-----BEGIN PRIVATE KEY-----\\nMIIEvQ\\n-----END PRIVATE KEY-----",
]


@pytest.mark.parametrize("value", SECRETS)
@pytest.mark.parametrize("key", ["secret", "certificate", "client_secret", "cloud", "tenant"])
def test_a_secret_is_refused_and_never_shown(tmp_path: Path, key: str, value: str) -> None:
    """Wherever somebody pastes a secret, the file is refused, and the message does not repeat it."""
    text = AUTH.replace("tenant", "tenan" if key == "tenant" else "tenant") + f'{key} = "{value}"\n'
    told = "\n".join(mistakes(tmp_path, text))
    assert f"auth.office.{key}" in told
    assert value[:12] not in told
    assert value[-8:] not in told


@pytest.mark.parametrize(
    "name", ["mailroom-graph", "Mailroom-Graph-Certificate-2026", "kv-app01-s2-eus-p01-x1-mail", "CERT", "graphclientsecretproduction"]
)
def test_names_in_the_vault_are_no_secrets(tmp_path: Path, name: str) -> None:
    """What people call their secrets passes, however they abbreviate."""
    assert read(tmp_path, AUTH + f'secret = "{name}"').profiles["office"].secret == name


def test_urls_and_addresses_are_no_secrets() -> None:
    """Only what looks random is hidden; a mistake in an address can be read."""
    assert not any(map(looks_secret, ["billing-2026-a1b2c3d4e5f6g7@example.com", "https://graph.microsoft.com/v1.0", TENANT, 3, None]))


def test_storage_by_identity(tmp_path: Path) -> None:
    """Three service URIs, as the platform's identity-based connection has them; some without the others are a mistake."""
    uris = {
        f"AzureWebJobsStorage__{service}ServiceUri": f"https://mail.{service}.core.windows.net/" for service in ("blob", "queue", "table")
    }
    found = read(tmp_path, GOOD, **uris)
    ends = [f"https://mail.{service}.core.windows.net" for service in ("blob", "queue", "table")]
    assert found.storage == Storage(*ends, account="mail")
    del uris["AzureWebJobsStorage__tableServiceUri"]
    [line] = mistakes(tmp_path, GOOD, **uris)
    assert line.startswith("AzureWebJobsStorage__tableServiceUri: missing")


CONNECTIONS: list[tuple[str, Any]] = [
    (
        "DefaultEndpointsProtocol=https;AccountName=mail;AccountKey=a+b/c==;EndpointSuffix=core.usgovcloudapi.net",
        ("https://mail.blob.core.usgovcloudapi.net", "https://mail.table.core.usgovcloudapi.net", "mail", "a+b/c=="),
    ),
    (
        "AccountName=dev;AccountKey=k;BlobEndpoint=http://127.0.0.1:1/dev/;QueueEndpoint=http://127.0.0.1:2/dev;TableEndpoint=http://127.0.0.1:3/dev;",
        ("http://127.0.0.1:1/dev", "http://127.0.0.1:3/dev", "dev", "k"),
    ),
]


@pytest.mark.parametrize(("value", "wanted"), CONNECTIONS)
def test_storage_by_connection_string(tmp_path: Path, value: str, wanted: Any) -> None:
    """Endpoints as they stand in it, else of the account, protocol and suffix."""
    storage = read(tmp_path, GOOD, AzureWebJobsStorage=value).storage
    assert storage is not None
    assert (storage.blob, storage.table, storage.account, storage.key) == wanted


def test_development_storage(tmp_path: Path) -> None:
    """UseDevelopmentStorage=true is Azurite on its usual ports."""
    storage = read(tmp_path, GOOD, AzureWebJobsStorage="UseDevelopmentStorage=true").storage
    assert storage is not None
    assert storage.queue == "http://127.0.0.1:10001/devstoreaccount1"
    assert storage.key


ENVIRONMENTS = [
    ("MAILROOM_VAULT_URL", "http://v.example", "should be the vault's URL"),
    ("AZURE_CLIENT_ID", "me", "should be the client id"),
    ("AzureWebJobsStorage", "BlobEndpoint=https://x;SharedAccessSignature=sv=1&sig=SECRETSIGNATURE", "found a shared access signature"),
    ("AzureWebJobsStorage", "AccountName=x;AccountKey=", "found no AccountName and AccountKey"),
    ("AzureWebJobsStorage", "@Microsoft.KeyVault(SecretUri=https://v)", "has not resolved"),
    ("AZURE_CLIENT_ID", "@Microsoft.KeyVault(VaultName=v;SecretName=s)", "has not resolved"),
]


@pytest.mark.parametrize(("name", "value", "line"), ENVIRONMENTS)
def test_a_wrong_environment_is_a_mistake_too(tmp_path: Path, name: str, value: str, line: str) -> None:
    """Named by the variable, its value never shown where it may hold a key."""
    [found] = mistakes(tmp_path, GOOD, **{name: value})
    assert found.startswith(f"{name}: ")
    assert line in found
    assert "SECRETSIGNATURE" not in found


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The path, the reason and the variable to set."""
    with pytest.raises(BadSettings) as raised:
        settings.read(tmp_path / "none.toml", {})
    [line] = raised.value.mistakes
    assert line.startswith(f"{tmp_path / 'none.toml'}: cannot be read (No such file or directory); MAILROOM_ACCOUNTS")


_SCALARS = st.one_of(st.text(max_size=30), st.integers(), st.floats(allow_nan=False), st.booleans(), st.datetimes())
_KEYS = st.sampled_from(
    ["auth", "accounts", "callers", "api", "clouds", "timing", "a", "grant", "tenant", "provider", "address", "accounts"]
)
_TABLES = st.recursive(_SCALARS | st.lists(_SCALARS, max_size=2), lambda inner: st.dictionaries(_KEYS, inner, max_size=4), max_leaves=12)


@given(values=st.dictionaries(_KEYS, _TABLES, max_size=5))
def test_no_file_breaks_the_reader(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever TOML says, the answer is settings or a list of mistakes."""
    path = tmp_path_factory.mktemp("toml") / "accounts.toml"
    path.write_text(_toml(values), "utf-8")
    try:
        settings.read(path, {})
    except BadSettings as error:
        assert error.mistakes  # noqa: PT017  # one of the two outcomes


def _toml(values: dict[str, Any]) -> str:
    return "".join(f"{name} = {_value(value)}\n" for name, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_value(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        return '"' + "".join(c if c.isalnum() and c.isascii() else f"\\U{ord(c):08X}" for c in value if not 0xD800 <= ord(c) < 0xE000) + '"'
    return msgspec.json.encode(value).decode()
