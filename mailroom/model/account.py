"""What accounts.toml says, checked and frozen."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from mailroom.model.message import Message

Operation = Literal["send", "read", "manage"]
OPERATIONS: tuple[Operation, ...] = ("send", "read", "manage")


class Cloud(msgspec.Struct, frozen=True):
    """Where one cloud's services are. URLs have no slash at their end; `authority` has no tenant; `sts` issues tokens of version 1."""

    authority: str
    graph: str  # ends in /v1.0
    graph_scope: str  # "https://graph.microsoft.com/.default"
    vault_resource: str  # "https://vault.azure.net"
    storage_resource: str  # "https://storage.azure.com"
    sts: str = "https://sts.windows.net"
    outlook_scope: str = "https://outlook.office365.com/.default"  # of tokens for SMTP and IMAP
    smtp: str = "smtp.office365.com:587"
    exchange_audience: str = "api://AzureADTokenExchange"  # of an identity's token that stands for a secret
    gmail: str = "https://gmail.googleapis.com"
    gmail_smtp: str = "smtp.gmail.com:587"
    google_authority: str = "https://oauth2.googleapis.com"
    google_sts: str = "https://sts.googleapis.com"
    google_iam: str = "https://iamcredentials.googleapis.com"


class Profile(msgspec.Struct, frozen=True):
    """One `[auth.NAME]`: a way to sign in. `secret` and `certificate` are names in the vault, never secrets.

    `options` holds what only this grant knows, as its module in `credentials/` lists it.
    """

    name: str
    grant: str
    tenant: str
    client_id: str
    cloud: Cloud
    secret: str | None = None
    certificate: str | None = None
    algorithm: Literal["PS256", "RS256"] = "PS256"
    options: tuple[tuple[str, str], ...] = ()
    subject: str = ""  # the mailbox that it signs in for, where each has a token of its own (the grant's PER_MAILBOX)

    @property
    def vault_secrets(self) -> tuple[str, ...]:
        """The names of the secrets that it signs in with: `secret`, and each option whose key ends in `_secret`."""
        more = (value for key, value in self.options if key.endswith("_secret"))
        return (*([self.secret] if self.secret else []), *more)


class Size(msgspec.Struct, frozen=True):
    """Mails up to a limit in bytes, and what sending them needs besides the permission to send: all of `needs`."""

    name: str
    limit: int
    needs: frozenset[str] = frozenset()


AT_ONCE = 4  # requests in flight at one mailbox: Graph's limit for each app


class Traits(msgspec.Struct, frozen=True):
    """What a provider says of itself, as `TRAITS` of its module in `providers/`.

    `permissions` are those that an account may declare; one of `sending` lets it send, one of `asking` lets us ask what was sent and read
    the inbox. A provider without permissions takes whatever its sign-in allows. `slice_weight` is how many of `in_flight` a slice takes,
    where they are free.
    """

    permissions: tuple[str, ...] = ()
    usual: tuple[str, ...] = ()  # what an account has that says nothing
    sending: frozenset[str] = frozenset()
    asking: frozenset[str] = frozenset()
    receives: bool = True
    signs_in: bool = True  # False: its accounts have no `auth`
    rate: float = 30.0  # messages a minute
    recipients_a_day: int = 0  # in a sliding 24 hours; 0 for no limit
    in_flight: int = AT_ONCE
    slice_weight: int = AT_ONCE
    asks_headers: bool = False  # a mail in MIME is found by its stamp's header alone, where its tenant can search that: `ask_mime`
    asked_through: str = ""  # the provider that can be asked what this one sent, by an account's `ask_auth`
    uploads: bool = False  # takes attachments that lie in blobs
    sizes: tuple[Size, ...] = ()  # where mails of some size need more than others


class Account(msgspec.Struct, frozen=True):
    """One `[accounts.NAME]`: a mailbox. `rate` is in messages a minute, `recipients_a_day` counts a sliding 24 hours (0: no limit);
    `options` holds what only its provider knows. `asked` is the same mailbox as another provider has it, which can be asked what was sent.
    Without `ask_mime` that is not to be relied on for mails in MIME: a search that can't find them finds nothing, and says no more.
    """

    name: str
    provider: str
    address: str
    profile: Profile
    send: bool = True
    receive: bool = False
    rate: float = 30.0
    recipients_a_day: int = 0
    in_doubt: Literal["hold", "resend"] = "hold"
    permissions: frozenset[str] = frozenset({"Mail.Send", "Mail.Read"})
    traits: Traits = Traits(asking=frozenset({"Mail.Read", "Mail.ReadWrite"}))
    folder: str = "inbox"
    since: datetime | None = None
    options: tuple[tuple[str, str], ...] = ()
    asked: Account | None = None
    ask_mime: bool = True

    @property
    def can_be_asked(self) -> bool:
        """Whether a provider can tell us if a stamp was sent: on Graph that is a search in Sent Items."""
        return self.asked is not None or bool(self.permissions & self.traits.asking)

    def can_be_asked_for(self, message: Message) -> bool:
        return self.can_be_asked and (self.ask_mime or not message.needs_mime)

    @property
    def sides(self) -> tuple[Account, ...]:
        """The mailbox as each of its providers has it, who signs in at each by itself."""
        return (self,) if self.asked is None else (self, self.asked)

    @property
    def vault_certificates(self) -> tuple[str, ...]:
        """The names of those that its provider shows, whatever it signs in with: each option whose key ends in `_certificate`."""
        return tuple(value for key, value in self.options if key.endswith("_certificate"))


class Caller(msgspec.Struct, frozen=True):
    """One `[callers.NAME]`: an application that may call us. `accounts` may hold "*"."""

    name: str
    client_id: str
    accounts: frozenset[str]
    operations: frozenset[Operation]

    def may_use(self, account: str) -> bool:
        return "*" in self.accounts or account in self.accounts


class Api(msgspec.Struct, frozen=True):
    """Our own API's registration: whose tokens the gate takes. `audiences` holds the client id and the App ID URI."""

    tenant: str
    audiences: frozenset[str]
    cloud: Cloud


class Timing(msgspec.Struct, frozen=True):
    """Seconds. A call must end within `call`; a claim outlasts several; `grace` is when a sent copy must have shown."""

    claim: float = 180.0
    call: float = 30.0
    grace: float = 300.0
    give_up: float = 48 * 3600.0
    upload: float = 480.0  # a mail's attachments must be with the provider within; less than host.json's functionTimeout
    pause: float = 60.0  # how long a lane rests after a fault of its account
    renew_ahead: float = 900.0  # renew tokens that end within this
    warn_ahead: float = 30 * 86400.0  # warn of secrets and certificates that end within this


class Schedules(msgspec.Struct, frozen=True):
    """NCRONTAB, six fields, UTC."""

    sweep: str = "0 * * * * *"
    sync: str = "30 * * * * *"
    refresh: str = "0 */5 * * * *"


class Settings(msgspec.Struct, frozen=True):
    accounts: dict[str, Account]
    profiles: dict[str, Profile]
    callers: dict[str, Caller]
    api: Api | None
    cloud: Cloud
    vault_url: str | None
    storage: Storage | None
    identity_client_id: str | None = None
    timing: Timing = Timing()
    schedules: Schedules = Schedules()
    keep_days: float = 30.0


class Storage(msgspec.Struct, frozen=True):
    """The storage account: three endpoints without a slash at their end, and a shared key only where a connection string gave one."""

    blob: str
    queue: str
    table: str
    account: str
    key: str | None = None
