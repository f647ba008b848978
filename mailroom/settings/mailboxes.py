"""`[auth.NAME]`, `[accounts.NAME]` and `[callers.NAME]`.

No grant and no provider is known here by name: each is a module of `credentials/` or `providers/`. A grant's `KEYS` say which keys of
its profile it reads and whether it must have them, and its `mistakes` what is wrong with them together; with PER_MAILBOX it signs in for
each mailbox by itself. A provider's `TRAITS` say what its accounts may say; it may have `KEYS` and `mistakes` too.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime, time
from importlib import import_module
from pathlib import Path
from types import ModuleType

import msgspec

from mailroom.model.account import OPERATIONS, Account, Caller, Cloud, Operation, Profile, Traits
from mailroom.settings.shapes import ADDRESS, GUID, TENANT, VAULT_NAME
from mailroom.settings.table import Table, nearest, shown

MOST_A_MINUTE = 1_000_000
MOST_A_DAY = 1_000_000_000
PROFILE_SHAPES = {"tenant": TENANT, "client_id": GUID, "register_as": GUID, "secret": VAULT_NAME, "certificate": VAULT_NAME}
PROFILE_SHAPES |= {"password_secret": VAULT_NAME, "refresh_token_secret": VAULT_NAME, "username": ADDRESS}
NO_PROVIDERS = frozenset({"mime"})

_HOUSE = Path(__file__).resolve().parent.parent


def profiles(file: Table, clouds: Mapping[str, Cloud], cloud: Cloud) -> dict[str, Profile]:
    grants = _modules("credentials")
    return {name: _profile(name, table, grants, clouds, cloud) for name, table in file.tables("auth")}


def accounts(file: Table, known: Mapping[str, Profile], cloud: Cloud) -> dict[str, Account]:
    found: dict[str, Account] = {}
    owners: dict[str, str] = {}
    providers = _modules("providers") - NO_PROVIDERS
    for name, table in file.tables("accounts"):
        account = _account(name, table, providers, known, cloud)
        owner = owners.setdefault(account.address.lower(), name)
        if account.address and owner != name:
            table.wrong("address", f"found {account.address}, the mailbox of account {owner} too", "give each mailbox one account")
        found[name] = account
    return found


def callers(file: Table, known: Collection[str]) -> dict[str, Caller]:
    found: dict[str, Caller] = {}
    owners: dict[str, str] = {}
    for name, table in file.tables("callers"):
        caller = _caller(name, table, known)
        owner = owners.setdefault(caller.client_id, name)
        if caller.client_id and owner != name:
            table.wrong("client_id", f"found the client id of caller {owner} too", "give each application one caller")
        found[name] = caller
    return found


def cloud_of(table: Table, clouds: Mapping[str, Cloud], default: Cloud) -> Cloud:
    return clouds.get(table.choice("cloud", clouds), default) if "cloud" in table else default


def _profile(name: str, table: Table, grants: Collection[str], clouds: Mapping[str, Cloud], cloud: Cloud) -> Profile:
    grant = table.choice("grant", grants)
    cloud = cloud_of(table, clouds, cloud)
    if not grant:  # then nobody knows which keys it may have
        return Profile(name, "", "", "", cloud)
    module = import_module(f"mailroom.credentials.{grant}")
    keys: Mapping[str, bool] = module.KEYS
    values = {key: _profile_value(table, key) for key, needed in keys.items() if needed or key in table}
    table.done({*keys, "cloud"})
    known = {key: value for key, value in values.items() if key in Profile.__struct_fields__}
    options = tuple(sorted((key, value) for key, value in values.items() if key not in known))
    profile = msgspec.structs.replace(Profile(name, grant, "", "", cloud, options=options), **known)
    for key, found, wanted in module.mistakes(profile):
        table.wrong(key, found, wanted)
    return profile


def _profile_value(table: Table, key: str) -> str:
    if key == "algorithm":
        return table.choice(key, ("PS256", "RS256"))
    value = table.text(key, shape=PROFILE_SHAPES.get(key), hidden=PROFILE_SHAPES.get(key) is VAULT_NAME)
    return value.lower() if key in ("tenant", "client_id") else value


def _account(name: str, table: Table, providers: Collection[str], known: Mapping[str, Profile], cloud: Cloud) -> Account:
    provider = table.choice("provider", providers)
    module = import_module(f"mailroom.providers.{provider}") if provider else None
    traits = _traits(module, table)
    address = table.text("address", shape=ADDRESS)
    account = Account(
        name=name,
        provider=provider,
        address=address,
        profile=_profile_of(table, traits, known, cloud, address),
        send=table.flag("send", True),
        receive=table.flag("receive", False),
        rate=table.number("rate", traits.rate, 0.1, MOST_A_MINUTE),
        recipients_a_day=int(table.number("recipients_a_day", traits.recipients_a_day, 0, MOST_A_DAY)),
        in_doubt="resend" if table.choice("in_doubt", ("hold", "resend"), "hold") == "resend" else "hold",
        permissions=table.texts("permissions", traits.usual, known=traits.permissions) if traits.permissions else frozenset(),
        traits=traits,
        folder=table.text("folder", "inbox"),
        since=_since(table),
        options=_options(table, getattr(module, "KEYS", {})),
        ask_mime=table.flag("ask_mime", True) if traits.asks_headers else True,
        asked=_asked(name, table, traits, known, cloud, address) if "ask_auth" in table and traits.asked_through else None,
    )
    if module is not None:  # without it nobody knows which keys it may have
        table.done()
        _check_permissions(table, account)
        for key, found, wanted in getattr(module, "mistakes", _none)(account):
            table.wrong(key, found, wanted)
    return account


def _asked(name: str, table: Table, traits: Traits, known: Mapping[str, Profile], cloud: Cloud, address: str) -> Account:
    """The mailbox as the provider has it that can be asked; only for that, with the least that it takes."""
    module = import_module(f"mailroom.providers.{traits.asked_through}")
    theirs: Traits = module.TRAITS
    profile, permissions = _profile_of(table, theirs, known, cloud, address, "ask_auth"), frozenset({_first(theirs, theirs.asking)})
    found = Account(name, traits.asked_through, address, profile, send=False, permissions=permissions, traits=theirs)
    for _, wrong, wanted in module.mistakes(found):
        table.wrong("ask_auth", wrong, wanted)
    if profile.grant and getattr(import_module(f"mailroom.credentials.{profile.grant}"), "DELEGATED", False):
        table.wrong(
            "ask_auth", f"found a profile with grant {profile.grant}", "should be one of an application: nobody is there to consent"
        )
    return found


def _profile_of(table: Table, traits: Traits, known: Mapping[str, Profile], cloud: Cloud, address: str, key: str = "auth") -> Profile:
    if not traits.signs_in:
        return Profile("", "none", "", "", cloud)
    profile = known.get(table.choice(key, known)) or Profile("", "", "", "", cloud)
    per_mailbox = profile.grant and getattr(import_module(f"mailroom.credentials.{profile.grant}"), "PER_MAILBOX", False)
    return msgspec.structs.replace(profile, subject=address) if per_mailbox else profile


def _traits(module: ModuleType | None, table: Table) -> Traits:
    """A provider's own, or those of the account's `preset` where it has PRESETS: another rate, other limits."""
    usual: Traits = getattr(module, "TRAITS", Traits())
    presets: Mapping[str, Traits] = getattr(module, "PRESETS", {})
    return presets.get(str(table.raw("preset")), usual) if presets else usual


def _none(account: Account) -> Iterable[tuple[str, str, str]]:
    return ()


def _options(table: Table, keys: Mapping[str, bool]) -> tuple[tuple[str, str], ...]:
    """What only this provider knows."""
    return tuple(sorted((key, table.text(key)) for key, needed in keys.items() if needed or key in table))


def _check_permissions(table: Table, account: Account) -> None:
    traits = account.traits
    if account.permissions and account.send and not account.permissions & traits.sending:
        table.wrong("permissions", f"found no {_first(traits, traits.sending)}", "add it, or say send = false")
    if account.permissions and account.receive and not account.can_be_asked:
        table.wrong("permissions", f"found no {_first(traits, traits.asking)}", "add it, or say receive = false")
    if account.receive and not traits.receives:
        table.wrong("receive", "found true", f"leave it out: {account.provider} only sends")


def _first(traits: Traits, wanted: Collection[str]) -> str:
    """The least permission of several, for they stand in that order."""
    return next((name for name in traits.permissions if name in wanted), "")


def _since(table: Table) -> datetime | None:
    value = table.raw("since")
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    if value is not None:
        table.wrong("since", f"found {shown(value)}", "should be a date or date and time without quotes, such as 2026-11-01T00:00:00Z")
    return None


def _caller(name: str, table: Table, known: Collection[str]) -> Caller:
    client_id = table.text("client_id", shape=GUID).lower()
    wanted = table.texts("accounts")
    for account in sorted(wanted - {"*", *known}):
        advice = nearest(account, known) or f'should be one of {", ".join(sorted(known)) or "[accounts]"}, or "*" for every account'
        table.wrong("accounts", f"found {shown(account)}", advice)
    asked = table.texts("operations", known=OPERATIONS)
    operations: frozenset[Operation] = frozenset(operation for operation in OPERATIONS if operation in asked)
    table.done()
    return Caller(name, client_id, wanted, operations)


def _modules(package: str) -> frozenset[str]:
    found = (module.name for module in pkgutil.iter_modules([str(_HOUSE / package)]))
    return frozenset(name for name in found if not name.startswith("_"))
