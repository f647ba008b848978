"""The tenant: who is registered in it, which APIs it knows, and the access tokens it hands out.

Claims as in learn.microsoft.com/entra/identity-platform/access-token-claims-reference: an API decides by its own manifest whether
its tokens are of version 1 or 2, not the endpoint that was asked.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.signing import BadToken, SigningKeys, WrongAudience
from sandbox.users import Delegations, User

__all__ = [
    "API",
    "GRAPH",
    "OUTLOOK",
    "STORAGE",
    "TOKEN_EXCHANGE",
    "VAULT",
    "App",
    "BadToken",
    "Directory",
    "Federated",
    "Resource",
    "SignIn",
    "WrongAudience",
    "client_of",
]

GRAPH = "https://graph.microsoft.com"
VAULT = "https://vault.azure.net"
STORAGE = "https://storage.azure.com"
TOKEN_EXCHANGE = "api://AzureADTokenExchange"
OUTLOOK = "https://outlook.office365.com"
API = "api://mailroom"


@dataclass(frozen=True, slots=True)
class Federated:
    """A federated identity credential: whose token an application may sign in with instead of a secret."""

    issuer: str
    subject: str
    audience: str = TOKEN_EXCHANGE


@dataclass(slots=True)
class App:
    """An app registration, or (`identity`) a user-assigned managed identity, with its service principal in the tenant.

    `exchange` holds what Exchange's own role assignments grant (RBAC for Applications): no token shows them.
    `azure_roles` holds role names such as "Key Vault Secrets Officer". `object_id` is the service principal's, `application_id` the app
    registration's own. `public` allows public client flows; `delegated` holds what an administrator has consented to for all users.
    """

    name: str
    client_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    secrets: dict[str, float] = field(default_factory=dict)  # value -> when it ends
    certificates: list[x509.Certificate] = field(default_factory=list)
    app_roles: dict[str, list[str]] = field(default_factory=dict)  # resource -> names
    exchange: dict[str, set[str]] = field(default_factory=dict)  # mailbox or "*" -> permissions
    azure_roles: set[str] = field(default_factory=set)
    identity: bool = False
    disabled: bool = False
    public: bool = False
    redirect_uris: set[str] = field(default_factory=set)
    delegated: dict[str, set[str]] = field(default_factory=dict)  # resource -> permissions
    object_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    application_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    federated: list[Federated] = field(default_factory=list)

    @property
    def secret(self) -> str:
        """The newest one."""
        return list(self.secrets)[-1]

    def add_secret(self, ends: float) -> str:
        value = secrets.token_urlsafe(30)
        self.secrets[value] = ends
        return value


@dataclass(slots=True)
class Resource:
    """An API that tokens are for. `aliases` are other names it is asked by; what its tokens say stays the same."""

    uri: str
    client_id: str
    version: Literal[1, 2] = 1
    audience: str = ""  # of its tokens; "" for the App ID URI (1) or the client id (2)
    aliases: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.audience = self.audience or (self.uri if self.version == 1 else self.client_id)

    @property
    def names(self) -> set[str]:
        return {self.uri, self.client_id, *self.aliases}


@dataclass(frozen=True, slots=True)
class SignIn:
    """A line of the sign-in log: who got a token for what, whether with a certificate, and when, in seconds since the epoch."""

    client_id: str
    resource: str
    certificate: bool
    at: float
    ends: float
    token: str  # its hash


@dataclass(slots=True)
class Directory:
    """`authority` is where Entra is served, without a slash at its end: set it as soon as that is known."""

    authority: str = ""
    tenant: str = field(default_factory=lambda: str(uuid.uuid4()))
    domain: str = "mailroom.example"
    lifetime: int = 3599
    proof_audience: str = "00000002-0000-0000-c000-000000000000"  # of proofs that a key is owned, when another is added
    now: Callable[[], float] = time.time
    apps: dict[str, App] = field(default_factory=dict)
    mailboxes: set[str] = field(default_factory=set)
    send_as: set[tuple[str, str]] = field(default_factory=set)  # (a mailbox, the address that Exchange lets it send as)
    on_behalf: set[tuple[str, str]] = field(default_factory=set)  # (a mailbox, the one that it may send on behalf of)
    resources: list[Resource] = field(default_factory=list)
    keys: SigningKeys = field(init=False)
    sign_ins: list[SignIn] = field(default_factory=list)
    users: dict[str, User] = field(default_factory=dict)
    delegations: Delegations = field(default_factory=Delegations)
    _revoked: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.keys = SigningKeys(now=lambda: self.now())
        self.resources += [
            Resource(GRAPH, "00000003-0000-0000-c000-000000000000"),
            Resource(VAULT, "cfa8b339-82a2-471a-a3c9-0fc0be7a4093"),
            Resource(STORAGE, "e406a681-f3d4-42a8-90b6-c2b029497af1"),
            Resource(TOKEN_EXCHANGE, "fb60f99c-7a34-4190-8149-302f77469936", version=2),
            Resource(OUTLOOK, "00000002-0000-0ff1-ce00-000000000000", aliases={"https://outlook.office.com"}),
        ]

    def register(self, app: App) -> App:
        self.apps[app.client_id] = app
        return app

    def add_user(self, user: User) -> User:
        """With a mailbox of that address."""
        self.users[user.address.lower()] = user
        self.mailboxes.add(user.address)
        return user

    def register_certificate(self, client_id: str, der: bytes) -> None:
        """RSA only, as Entra takes no other for an application."""
        certificate = x509.load_der_x509_certificate(der)
        if not isinstance(certificate.public_key(), rsa.RSAPublicKey):
            raise ValueError("an application signs in with RSA certificates only")
        self.apps[client_id].certificates.append(certificate)

    def trust(self, app: App, identity: App) -> Federated:
        """From now on this application signs in with that managed identity's token."""
        app.federated.append(Federated(self.issuer(2), identity.object_id))
        return app.federated[-1]

    def app(self, name: str) -> App:
        return next(app for app in self.apps.values() if app.name == name)

    def resource(self, name: str) -> Resource | None:
        """By App ID URI, alias or client id; a slash at the end makes no difference."""
        return next((resource for resource in self.resources if name.rstrip("/") in resource.names), None)

    def alias(self, uri: str, alias: str) -> None:
        """From now on tokens for `uri` may be asked for as `alias` too: `directory.alias(GRAPH, graph.url)`."""
        next(resource for resource in self.resources if resource.uri == uri).aliases.add(alias.rstrip("/"))

    def issuer(self, version: Literal[1, 2]) -> str:
        if version == 1:
            return f"https://sts.windows.net/{self.tenant}/"
        return f"{self.login_url(self.tenant)}/v2.0"

    def login_url(self, tenant: str) -> str:
        if not self.authority:
            raise RuntimeError("set directory.authority to the URL where sandbox.entra is served")
        return f"{self.authority}/{tenant}"

    def issue(
        self, client_id: str, audience: str, roles: list[str] | None = None, lifetime: float | None = None, *, certificate: bool = False
    ) -> str:
        """A token of this app for the resource of that name; without `roles`, with those the app was granted there.

        An `audience` that is no resource of ours goes into the token as it is: a token of somebody else's.
        """
        app = self.apps[client_id]
        resource = self.resource(audience) or Resource(audience, audience)
        granted = app.app_roles.get(resource.uri, []) if roles is None else roles
        method = "2" if certificate or app.identity else "1"
        claims: dict[str, Any] = {"oid": app.object_id, "sub": app.object_id}
        if granted:
            claims["roles"] = granted
        return self._sign(client_id, resource, method, self.lifetime if lifetime is None else lifetime, claims)

    def issue_delegated(self, user: User, client_id: str, resource: Resource, permissions: Collection[str], method: str) -> str:
        """A token of this user; `method` says how the app proved itself: 0 not at all, 1 by a secret, 2 by a certificate."""
        name = "upn" if resource.version == 1 else "preferred_username"
        claims = {"oid": user.object_id, "sub": user.object_id, name: user.address, "scp": " ".join(sorted(permissions))}
        return self._sign(client_id, resource, method, self.lifetime, claims)

    def _sign(self, client_id: str, resource: Resource, method: str, lifetime: float, more: dict[str, Any]) -> str:
        now = int(self.now())
        claims: dict[str, Any] = {
            "aud": resource.audience,
            "iss": self.issuer(resource.version),
            "iat": now,
            "nbf": now,
            "exp": now + int(lifetime),
            **_client(client_id, method, resource.version),
            "tid": self.tenant,
            "uti": base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=").decode(),
            "ver": f"{resource.version}.0",
            **more,
        }
        token = self.keys.sign(claims)
        self.sign_ins.append(SignIn(client_id, resource.uri, method == "2", self.now(), claims["exp"], _hash(token)))
        return token

    def check(self, token: str, audiences: Collection[str]) -> dict[str, Any]:
        """The claims of a good token for one of these resources or audiences; raises BadToken."""
        claims = self.keys.verify(token)
        named = (self.resource(name) for name in audiences)
        if claims["aud"] not in {*audiences, *(resource.audience for resource in named if resource)}:
            raise WrongAudience(claims["aud"])
        if _hash(token) in self._revoked:
            raise BadToken("Access token has been revoked.")
        return claims

    def revoke(self, token: str) -> None:
        """From now on this very token is refused, as continuous access evaluation would."""
        self._revoked.add(_hash(token))

    def revoke_all(self, client_id: str) -> int:
        """As `revoke`, every token that this app has by now."""
        tokens = {one.token for one in self.sign_ins if one.client_id == client_id}
        self._revoked |= tokens
        return len(tokens)


def client_of(claims: dict[str, Any]) -> str:
    """The client id that a token of either version was issued to."""
    return str(claims.get("azp") or claims["appid"])


def _client(client_id: str, method: str, version: Literal[1, 2]) -> dict[str, str]:
    """`method` is 0 for a public client, 1 for a secret, 2 for a certificate."""
    return {"azp": client_id, "azpacr": method} if version == 2 else {"appid": client_id, "appidacr": method}


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
