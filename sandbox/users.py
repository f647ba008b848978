"""The people of the tenant: each is a mailbox with a password, and with whatever stands in the way of signing in."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass, field

WRONG_PASSWORDS = 10  # in a row: learn.microsoft.com/entra/identity/authentication/howto-password-smart-lockout
LOCKED_SECONDS = 60.0


@dataclass(slots=True)
class User:
    """`address` is the user principal name and the mailbox, in small letters.

    `refusal` is the AADSTS number that their sign-ins meet (53003, 50057, ...), None for none. A `federated` user's password is not Entra's
    to check. `signed_in`: the browser knows them already and asks nothing.
    """

    address: str
    password: str = field(default_factory=lambda: secrets.token_urlsafe(15))
    name: str = ""
    object_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    refusal: int | None = None
    federated: bool = False
    signed_in: bool = False
    wrong_passwords: int = 0
    locked_until: float = 0.0
    revoked_at: float = 0.0  # refresh tokens issued until then are good no more


@dataclass(frozen=True, slots=True)
class Session:
    """What a refresh token stands for: it is bound to user and client, not to a resource."""

    user: User
    client_id: str
    confidential: bool
    issued: float


@dataclass(slots=True)
class Code:
    """An authorization code, or a device's question: `user` is None until somebody has signed in, `declined` if they said no."""

    client_id: str
    scope: str
    ends: float
    user: User | None = None
    declined: bool = False
    redirect_uri: str = ""
    challenge: str = ""
    nonce: str = ""
    user_code: str = ""
    polled: float = 0.0


@dataclass(slots=True)
class Delegations:
    """What users have let applications do, and what is under way. `interval` is between a device's polls; both are in seconds."""

    refresh_lifetime: float = 90 * 86_400.0
    interval: int = 5
    refresh_tokens: dict[str, Session] = field(default_factory=dict)
    codes: dict[str, Code] = field(default_factory=dict)
    devices: dict[str, Code] = field(default_factory=dict)
    consents: set[tuple[str, str, str]] = field(default_factory=set)  # client id, object id, RESOURCE/PERMISSION

    def begin(self, session: Session) -> str:
        token = f"1.{secrets.token_urlsafe(60)}"
        self.refresh_tokens[token] = session
        return token
