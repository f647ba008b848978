"""accounts.toml and the environment as frozen Settings, read once when the app loads. A wrong file is told all its mistakes at once."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mailroom.errors import BadSettings
from mailroom.model.account import Api, Cloud, Schedules, Settings, Timing
from mailroom.settings import clouds, environment, mailboxes
from mailroom.settings.shapes import GUID, SCHEDULE, TENANT
from mailroom.settings.table import Table

__all__ = ["locate", "read"]

YEAR = 366 * 86400.0
KEYS_LIVE = 48 * 3600.0  # how long an Idempotency-Key counts


def locate(root: Path, env: Mapping[str, str]) -> Path:
    """MAILROOM_ACCOUNTS (seen from `root`), else accounts.toml there, else the example."""
    told = env.get("MAILROOM_ACCOUNTS")
    if told:
        return root / told
    own = root / "accounts.toml"
    return own if own.exists() else root / "accounts.example.toml"


def read(path: Path, env: Mapping[str, str]) -> Settings:
    """Raises BadSettings with one line for each mistake: key path, what was found, what would be right."""
    mistakes: list[str] = []
    given = environment.read(env, mistakes)
    file = Table("", _parsed(path, mistakes), mistakes)
    known = clouds.read(file)
    cloud = known.get(file.choice("cloud", known, "public"), clouds.CLOUDS["public"])
    profiles = mailboxes.profiles(file, known, cloud)
    accounts = mailboxes.accounts(file, profiles, cloud)
    timing = _timing(file.table("timing"))
    settings = Settings(
        accounts=accounts,
        profiles=profiles,
        callers=mailboxes.callers(file, accounts),
        api=_api(file.table("api"), known, cloud) if "api" in file else None,
        cloud=cloud,
        vault_url=given.vault_url,
        storage=given.storage,
        identity_client_id=given.identity_client_id,
        timing=timing,
        schedules=_schedules(file.table("schedules")),
        keep_days=file.number("keep_days", 30.0, max(KEYS_LIVE, timing.give_up) / 86400, 3660),
    )
    file.done()
    if mistakes:
        raise BadSettings(mistakes)
    return settings


def _parsed(path: Path, mistakes: list[str]) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        mistakes.append(f"{path}: cannot be read ({error.strerror}); MAILROOM_ACCOUNTS should be the path of the accounts file")
    except UnicodeDecodeError:
        mistakes.append(f"{path}: found bytes that are no UTF-8; TOML is UTF-8")
    except tomllib.TOMLDecodeError as error:
        mistakes.append(f"{path}: not TOML: {error}")
    return {}


def _api(table: Table, known: Mapping[str, Cloud], cloud: Cloud) -> Api:
    audience = table.raw("audience")
    audiences = frozenset({audience}) if isinstance(audience, str) and audience else table.texts("audience")
    api = Api(
        tenant=table.text("tenant", shape=TENANT).lower(),
        audiences=frozenset(name.lower() if GUID.pattern.fullmatch(name) else name for name in audiences),
        cloud=mailboxes.cloud_of(table, known, cloud),
    )
    table.done({"cloud"})
    return api


def _timing(table: Table) -> Timing:
    defaults = Timing()
    limits = {"claim": (0.1, 3600.0), "call": (0.05, 600.0), "pause": (0.0, 86400.0)}
    values = {name: table.number(name, getattr(defaults, name), *limits.get(name, (0.0, YEAR))) for name in Timing.__struct_fields__}
    table.done()
    timing = Timing(**values)
    if timing.claim <= timing.call:
        table.wrong("claim", f"found {timing.claim:g}", f"should be more than timing.call ({timing.call:g}): a claim outlasts its calls")
    if timing.give_up <= timing.claim + timing.grace:
        least = timing.claim + timing.grace
        table.wrong("give_up", f"found {timing.give_up:g}", f"should be more than timing.claim and timing.grace together ({least:g})")
    return timing


def _schedules(table: Table) -> Schedules:
    defaults = Schedules()
    values = {name: table.text(name, getattr(defaults, name), shape=SCHEDULE) for name in Schedules.__struct_fields__}
    table.done()
    return Schedules(**values)
