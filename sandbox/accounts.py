"""accounts.toml for the sandbox: its cloud, each mailbox as an account of its own address, timing in seconds."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sandbox.directory import API, GRAPH, STORAGE, VAULT
from sandbox.services import CERTIFICATE, GOOGLE_KEY, NOTICES, ORDERS, REPORTS, Services

MANY = 1_000_000  # recipients a day: a coffee break is no day


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds and schedules: a day's work of a real tenant within a coffee break. `renew_ahead` is what production has."""

    renew_ahead: float = 900.0
    sweep: str = "*/5 * * * * *"
    sync: str = "*/3 * * * * *"
    refresh: str = "*/5 * * * * *"
    claim: float = 20
    call: float = 5
    grace: float = 5


def accounts_toml(services: Services, pace: Pace) -> str:
    directory = services.directory
    graph, caller, api = (directory.app(name).client_id for name in ("graph", "caller", "mailroom-api"))
    tables: dict[str, dict[str, object]] = {
        "clouds.sandbox": {
            "authority": services.authority,
            "graph": services.graph,
            "graph_scope": f"{GRAPH}/.default",
            "vault_resource": VAULT,
            "storage_resource": STORAGE,
            "smtp": services.smtp.removeprefix("smtp://"),
            **dict.fromkeys(("gmail", "google_authority", "google_sts", "google_iam"), services.google.workspace.url),
        },
        "auth.sandbox": {
            "grant": "client_credentials",
            "tenant": directory.tenant,
            "client_id": graph,
            "certificate": CERTIFICATE,
        },
        "auth.google": {"grant": "jwt_bearer", "secret": GOOGLE_KEY},
        **{
            f"accounts.{json.dumps(address)}": {
                "provider": "graph",
                "address": address,
                "auth": "sandbox",
                "send": True,
                "receive": True,
                "rate": 6000,
                "recipients_a_day": MANY,
                "permissions": ["Mail.Send", "Mail.Read", "Mail.ReadWrite"],
            }
            for address in services.mailboxes
        },
        **{
            f"accounts.{json.dumps(address)}": {
                "provider": "smtp",
                "address": address,
                "auth": "sandbox",
                "rate": 6000,
                "recipients_a_day": MANY,
                **asking,
            }
            for address, asking in ((REPORTS, {}), (NOTICES, {"ask_auth": "sandbox"}))
        },
        f"accounts.{json.dumps(ORDERS)}": {
            "provider": "gmail",
            "address": ORDERS,
            "auth": "google",
            "receive": True,
            "rate": 6000,
            "recipients_a_day": MANY,
        },
        "callers.caller": {"client_id": caller, "accounts": ["*"], "operations": ["send", "read", "manage"]},
        "api": {"tenant": directory.tenant, "audience": [API, api]},
        "timing": {
            "claim": pace.claim,
            "call": pace.call,
            "grace": pace.grace,
            "give_up": 3600,
            "pause": 2,
            "renew_ahead": pace.renew_ahead,
        },
        "schedules": {"sweep": pace.sweep, "sync": pace.sync, "refresh": pace.refresh},
    }
    return 'cloud = "sandbox"\n' + "".join(f"\n[{name}]\n{_lines(values)}" for name, values in tables.items())


def _lines(values: dict[str, object]) -> str:
    """TOML writes texts, numbers, booleans and lists of texts as JSON does."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
