"""The one place that builds things. Each is built once, when first asked for; loading reads accounts.toml and nothing else.

Grants and providers are found by name: `credentials/GRANT.py` and `providers/PROVIDER.py` each have a `build` that takes this module as
the parts to build of.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mailroom import http
from mailroom import settings as settings_file
from mailroom.errors import BadSettings
from mailroom.gate import Gate
from mailroom.identity import Identity
from mailroom.keyring import Keyring
from mailroom.model.account import Account, Profile, Settings
from mailroom.ports import Certificates, Credential, Inbox, Parts, Registrar, Sender, Store, Vault
from mailroom.storage.keys import StoredKeys
from mailroom.storage.lanes import StoredLanes
from mailroom.storage.ledger import StoredLedger
from mailroom.storage.outbox import StoredOutbox
from mailroom.storage.rest import RestStore
from mailroom.storage.tokens import SealedTokens
from mailroom.storage.vault import RestVault
from mailroom.storage.vault_wire import VaultWire

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent

_built: list[Callable[[], None]] = []


def once(build: Callable[[], T]) -> Callable[[], T]:
    """Builds on the first call and remembers; `forget` starts afresh, for programs that run more than one event loop."""
    kept = cache(build)
    _built.append(kept.cache_clear)
    return kept


def forget() -> None:
    for clear in _built:
        clear()
    sender.cache_clear()
    inbox.cache_clear()
    credential.cache_clear()


monotonic = time.monotonic


def random_prefix() -> str:
    return secrets.token_hex(9)


@once
def settings() -> Settings:
    return settings_file.read(settings_file.locate(ROOT, os.environ), os.environ)


@once
def client() -> httpx.AsyncClient:
    return http.new_client()


@once
def identity() -> Identity:
    return Identity(client(), os.environ, client_id=settings().identity_client_id)


def call_seconds() -> float:
    return settings().timing.call


@once
def store() -> Store:
    where = settings().storage
    if where is None:
        raise BadSettings(["AzureWebJobsStorage: not set; set the connection string, or AzureWebJobsStorage__blobServiceUri and its like"])
    return RestStore(where, client(), identity(), resource=settings().cloud.storage_resource)


@once
def vault() -> Vault:
    return RestVault(_vault_url(), client(), identity(), resource=settings().cloud.vault_resource)


def vault_wire() -> VaultWire:
    return VaultWire(_vault_url(), client(), identity(), resource=settings().cloud.vault_resource)


@once
def certificates() -> Certificates:
    from mailroom.storage.certificates import VaultCertificates

    return VaultCertificates(_vault_url(), os.environ, client_id=settings().identity_client_id)


@once
def ledger() -> StoredLedger:
    return StoredLedger(store())


@once
def lanes() -> StoredLanes:
    return StoredLanes(store())


@once
def outbox() -> StoredOutbox:
    return StoredOutbox(store())


@once
def keys() -> StoredKeys:
    return StoredKeys(store())


@once
def gate() -> Gate:
    return Gate(settings(), client())


@once
def keyring() -> Keyring:
    return Keyring(SealedTokens(store(), vault()), credential, scope_of=scope)


@cache
def credential(profile: Profile) -> Credential:
    built: Credential = import_module(f"mailroom.credentials.{profile.grant}").build(profile, _parts())
    return built


@once
def registrars() -> dict[str, Registrar]:
    """By the names of those profiles whose applications we may tell of new keys."""
    allowed = [profile for profile in settings().profiles.values() if "register_as" in dict(profile.options)]
    return {profile.name: import_module(f"mailroom.credentials.{profile.grant}").registrar(profile, _parts()) for profile in allowed}


@cache
def sender(account: Account) -> Sender:
    built: Sender = import_module(f"mailroom.providers.{account.provider}").build(_parts())
    return built


@cache
def inbox(account: Account) -> Inbox:
    built: Inbox = import_module(f"mailroom.providers.{account.provider}").build(_parts())
    return built


def scope(account: Account) -> str:
    """What a token for this account is asked for: what the application was granted, or what a user is asked to consent to."""
    provider = import_module(f"mailroom.providers.{account.provider}")
    grant = import_module(f"mailroom.credentials.{account.profile.grant}")
    delegated = getattr(provider, "delegated_scope", None) if getattr(grant, "DELEGATED", False) else None
    wanted: str = (delegated or provider.scope)(account)
    return wanted


def _parts() -> Parts:
    return sys.modules[__name__]


def _vault_url() -> str:
    url = settings().vault_url
    if url is None:
        raise BadSettings(["MAILROOM_VAULT_URL: not set; set the vault's URL, such as https://NAME.vault.azure.net"])
    return url
