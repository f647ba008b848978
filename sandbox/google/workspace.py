"""A Google Workspace domain and its cloud project: mailboxes, service accounts with their keys, and the access tokens handed out.

Tokens are opaque here as they are at Google: only the issuer knows what is behind one.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat, pkcs12

from sandbox.vault import pfx

SCOPE = "https://www.googleapis.com/auth/"
SEND, READONLY, MODIFY = f"{SCOPE}gmail.send", f"{SCOPE}gmail.readonly", f"{SCOPE}gmail.modify"
FULL, CLOUD = "https://mail.google.com/", f"{SCOPE}cloud-platform"
KNOWN_SCOPES = frozenset({SEND, READONLY, MODIFY, FULL, CLOUD, f"{SCOPE}gmail.compose", f"{SCOPE}gmail.metadata"})
P12_PASSWORD = "notasecret"  # of every .p12 key that Google ever made
P12_ALIAS = "privatekey"


@dataclass(slots=True)
class ServiceAccount:
    """`delegated` are the scopes that the domain's administrator allows its client id; `signers` who may let it sign (signJwt)."""

    email: str
    client_id: str = field(default_factory=lambda: str(10**20 + secrets.randbelow(10**20)))
    keys: dict[str, rsa.RSAPublicKey] = field(default_factory=dict)
    delegated: set[str] = field(default_factory=set)
    signers: set[str] = field(default_factory=set)
    disabled: bool = False
    own_key: tuple[str, rsa.RSAPrivateKey] | None = None  # Google's, that signJwt signs with

    def register(self, key: rsa.RSAPublicKey) -> str:
        """As an uploaded public key is; its id."""
        key_id = secrets.token_hex(20)
        self.keys[key_id] = key
        return key_id

    def new_json_key(self) -> str:
        """A new key, as the file that an administrator downloads once."""
        key = rsa.generate_private_key(65537, 2048)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        return json.dumps(self._file(self.register(key.public_key()), pem), indent=2)

    def new_p12_key(self, password: str = P12_PASSWORD, alias: str = P12_ALIAS) -> bytes:
        """The older form of such a file. It names neither the account nor the key."""
        key, certificate = pfx.self_signed({})
        self.register(key.public_key())
        return p12(key, certificate, password, alias)

    def signing_key(self) -> tuple[str, rsa.RSAPrivateKey]:
        if self.own_key is None:
            key = rsa.generate_private_key(65537, 2048)
            self.own_key = self.register(key.public_key()), key
        return self.own_key

    def _file(self, key_id: str, pem: str) -> dict[str, str]:
        return {
            "type": "service_account",
            "project_id": self.email.partition("@")[2].partition(".")[0],
            "private_key_id": key_id,
            "private_key": pem,
            "client_email": self.email,
            "client_id": self.client_id,
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": "https://oauth2.googleapis.com/token",
            "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
            "client_x509_cert_url": f"https://www.googleapis.com/robot/v1/metadata/x509/{self.email.replace('@', '%40')}",
            "universe_domain": "googleapis.com",
        }


def p12(key: rsa.RSAPrivateKey, certificate: x509.Certificate, password: str, alias: str) -> bytes:
    return pkcs12.serialize_key_and_certificates(alias.encode(), key, certificate, None, BestAvailableEncryption(password.encode()))


@dataclass(frozen=True, slots=True)
class Grant:
    """What an access token is good for: whom it acts as, in which scopes, until when (seconds since the epoch)."""

    subject: str
    scopes: frozenset[str]
    ends: float


@dataclass(frozen=True, slots=True)
class Pool:
    """A provider of a workload identity pool: whose tokens it takes, for which audience. `verify` gives the claims of a good one."""

    name: str  # //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER
    issuer: str
    audience: str
    verify: Callable[[str], dict[str, Any]]

    def principal(self, subject: str) -> str:
        return f"principal:{self.name.rpartition('/providers/')[0]}/subject/{subject}"


@dataclass(slots=True)
class Workspace:
    """`url` is where Google is served, without a slash at its end: set it as soon as that is known."""

    mailboxes: set[str] = field(default_factory=set)
    url: str = ""
    lifetime: int = 3599
    now: Callable[[], float] = time.time
    accounts: dict[str, ServiceAccount] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)
    sign_ins: list[tuple[str, str]] = field(default_factory=list)  # service account, mailbox
    _tokens: dict[str, Grant] = field(default_factory=dict)

    def account(self, email: str, delegated: Collection[str] = (SEND, READONLY, MODIFY)) -> ServiceAccount:
        """A new service account."""
        made = self.accounts[email] = ServiceAccount(email, delegated=set(delegated))
        return made

    def mailbox(self, address: str) -> str | None:
        return next((known for known in self.mailboxes if known.lower() == address.lower()), None)

    def issue(self, subject: str, scopes: Collection[str], lifetime: float | None = None) -> str:
        token = f"ya29.c.{secrets.token_urlsafe(120)}"
        self._tokens[token] = Grant(subject, frozenset(scopes), self.now() + (self.lifetime if lifetime is None else lifetime))
        return token

    def grant(self, token: str) -> Grant | None:
        """None for a token that ended, was revoked or never was."""
        found = self._tokens.get(token)
        return found if found and found.ends > self.now() else None

    def revoke(self, token: str) -> None:
        self._tokens.pop(token, None)

    def revoke_all(self) -> int:
        count = len(self._tokens)
        self._tokens.clear()
        return count
