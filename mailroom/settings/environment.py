"""What the environment says: where storage and the vault are, and who we are. None of it is needed to load; each is on first use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from mailroom.model.account import Storage
from mailroom.settings.shapes import GUID

STORAGE = "AzureWebJobsStorage"
SERVICES = ("blob", "queue", "table")
URIS = {service: f"{STORAGE}__{service}ServiceUri" for service in SERVICES}
READ = ("MAILROOM_ACCOUNTS", "MAILROOM_VAULT_URL", "AZURE_CLIENT_ID", STORAGE, *URIS.values())

# Azurite's account, the same on every machine: learn.microsoft.com/azure/storage/common/storage-connect-azurite
DEVELOPMENT_ACCOUNT = "devstoreaccount1"
DEVELOPMENT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
DEVELOPMENT_PORTS = {"blob": 10000, "queue": 10001, "table": 10002}

_REFERENCE = "@Microsoft.KeyVault("
_UNRESOLVED = (
    "found a Key Vault reference that the platform has not resolved; see the app's Configuration page for the reason "
    "(often the identity may not read the vault, or the secret's name is wrong)"
)
_VAULT = re.compile(r"https://[A-Za-z0-9.-]+(:\d+)?/?")
_SERVICE_URI = re.compile(r"https?://[A-Za-z0-9.-]+(:\d+)?(/[A-Za-z0-9-]+)?/?")


class Environment(NamedTuple):
    storage: Storage | None
    vault_url: str | None
    identity_client_id: str | None


def read(env: Mapping[str, str], mistakes: list[str]) -> Environment:
    unresolved = [name for name in READ if env.get(name, "").startswith(_REFERENCE)]
    mistakes += [f"{name}: {_UNRESOLVED}" for name in unresolved]
    good = {name: env[name].strip() for name in READ if name in env and name not in unresolved}
    return Environment(_storage(good, mistakes), _vault_url(good, mistakes), _client_id(good, mistakes))


def _vault_url(env: Mapping[str, str], mistakes: list[str]) -> str | None:
    url = env.get("MAILROOM_VAULT_URL", "")
    if url and not _VAULT.fullmatch(url):
        mistakes.append(f'MAILROOM_VAULT_URL: found "{url[:100]}"; should be the vault\'s URL, such as https://NAME.vault.azure.net')
    return url.rstrip("/") or None


def _client_id(env: Mapping[str, str], mistakes: list[str]) -> str | None:
    client_id = env.get("AZURE_CLIENT_ID", "")
    if client_id and not GUID.pattern.fullmatch(client_id):
        mistakes.append("AZURE_CLIENT_ID: found no GUID; should be the client id of the app's user-assigned identity")
    return client_id or None


def _storage(env: Mapping[str, str], mistakes: list[str]) -> Storage | None:
    """A setting named exactly AzureWebJobsStorage wins, as it does with the Functions host."""
    if env.get(STORAGE):
        return _by_connection_string(env[STORAGE], mistakes)
    uris = {service: env[name].rstrip("/") for service, name in URIS.items() if env.get(name)}
    if not uris:
        return None
    for service, name in URIS.items():
        if service not in uris:
            mistakes.append(f"{name}: missing; should be the account's {service} endpoint, as the two others are set")
        elif not _SERVICE_URI.fullmatch(uris[service]):
            mistakes.append(f"{name}: found no service address; should be like https://NAME.{service}.core.windows.net")
    return _at(uris, _account_of(uris.get("blob", "")))


def _at(ends: Mapping[str, str], account: str, key: str | None = None) -> Storage:
    return Storage(ends.get("blob", ""), ends.get("queue", ""), ends.get("table", ""), account, key)


def _account_of(uri: str) -> str:
    """The host's first label, or the path where the account stands in it, as with Azurite."""
    parts = urlsplit(uri)
    return parts.path.strip("/") or (parts.hostname or "").partition(".")[0]


def _by_connection_string(value: str, mistakes: list[str]) -> Storage | None:
    parts = {name.strip().lower(): part for name, _, part in (piece.partition("=") for piece in value.split(";")) if part}
    if parts.get("usedevelopmentstorage", "").lower() == "true":
        ends = {service: f"http://127.0.0.1:{port}/{DEVELOPMENT_ACCOUNT}" for service, port in DEVELOPMENT_PORTS.items()}
        return _at(ends, DEVELOPMENT_ACCOUNT, DEVELOPMENT_KEY)
    if "sharedaccesssignature" in parts:
        mistakes.append(f"{STORAGE}: found a shared access signature; should be an account key, or the three service URIs with an identity")
        return None
    account, key = parts.get("accountname", ""), parts.get("accountkey", "")
    if not account or not key:
        mistakes.append(f"{STORAGE}: found no AccountName and AccountKey in it; should be a storage account's connection string")
        return None
    scheme, suffix = parts.get("defaultendpointsprotocol", "https"), parts.get("endpointsuffix", "core.windows.net")
    ends = {service: parts.get(f"{service}endpoint", f"{scheme}://{account}.{service}.{suffix}").rstrip("/") for service in SERVICES}
    return _at(ends, account, key)
