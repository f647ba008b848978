"""The protocols the rooms and the core meet through. `wiring` introduces whoever implements them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from mailroom.errors import ProviderError
from mailroom.model.account import AT_ONCE, Account
from mailroom.model.certificate import Certificate, CertificateVersion, PublicCertificate
from mailroom.model.message import Message, Outgoing, Receipt
from mailroom.model.page import Page
from mailroom.model.row import Blob, Change, Row, Ticket
from mailroom.model.token import Token

if TYPE_CHECKING:
    import httpx


Signing = Literal["PS256", "RS256"]


class Credential(Protocol):
    """How one grant is asked for: one file in `credentials/`."""

    async def ask(self, scope: str) -> Token:
        """A new token from the authority, never from a cache. Raises AuthorityRefused, AuthorityDown, VaultRefused, VaultDown."""
        ...


@runtime_checkable
class Rotates(Protocol):
    """A credential that lives on a refresh token in the vault, which must be replaced before its end."""

    secret_name: str

    async def rotated(self, scope: str) -> str:
        """A new refresh token for the vault's newest one, "" where there is none to be had; nothing is stored. Raises what `ask` raises."""
        ...


class Registrar(Protocol):
    """Makes new versions of one profile's certificate known to its application."""

    async def newest(self) -> str:
        """The newest version in the vault that can sign now. Raises VaultRefused, VaultDown."""
        ...

    async def accepted(self, version: str) -> bool:
        """Whether the authority knows it by now. Raises what `Credential.ask` raises for any other reason."""
        ...

    async def register(self, version: str) -> None:
        """With the proof by a version that is registered. Raises AuthorityRefused (`registration_refused`), and what `accepted` raises."""
        ...


class Tokens(Protocol):
    """The sealed cache: tokens that outlive a process, and bars on tokens that a provider refused."""

    async def get(self, key: str) -> Token | None: ...

    async def put(self, key: str, token: Token) -> None: ...

    async def bar(self, token: Token) -> None:
        """From now on this very token is handed out nowhere, by no instance."""
        ...

    async def barred(self, token: Token) -> bool: ...


class Renewer(Protocol):
    """The keyring as the timer knows it."""

    async def renew(self, account: Account, ahead: float) -> bool:
        """Has a new token when the one that all instances share ends within `ahead` seconds; whether it had to."""
        ...


class Keyring(Protocol):
    """Hands out live tokens and alone decides when to renew."""

    async def token(self, account: Account) -> Token: ...

    async def bar(self, account: Account, token: Token) -> None: ...


class Vault(Protocol):
    """Key Vault, the few calls of the hot path by REST."""

    async def secret(self, name: str, *, fresh: bool = False) -> str:
        """The newest version's value, remembered for hours unless `fresh`. Raises VaultRefused (`vault_secret_missing`, ...), VaultDown."""
        ...

    async def set_secret(self, name: str, value: str, content_type: str = "text/plain") -> None: ...

    async def ends(self) -> list[tuple[str, str, datetime]]:
        """(kind, name, end) of every secret and certificate that has an end; kind is `secret` or `certificate`."""
        ...

    async def public_certificate(self, name: str, version: str = "") -> PublicCertificate:
        """That version or the newest, fit to sign with now. Raises what `Certificates.certificate` raises."""
        ...

    async def certificate_versions(self, name: str) -> list[CertificateVersion]:
        """Every version there is, the newest first."""
        ...

    async def sign(self, name: str, version: str, algorithm: Signing, digest: bytes) -> bytes:
        """The signature of a SHA-256 digest by the key of that version, which stays in the vault. Raises VaultRefused, VaultDown."""
        ...


class Certificates(Protocol):
    """Key Vault certificates with their private keys: seldom asked for, never remembered."""

    async def certificate(self, name: str, version: str = "") -> Certificate:
        """That version or the newest, fit to sign with now.

        Raises VaultRefused (`vault_certificate_missing`, `certificate_expired`, ...), VaultDown.
        """
        ...


class Identity(Protocol):
    """Who we are to Azure: the app's managed identity."""

    async def token(self, resource: str, *, fresh: bool = False) -> Token:
        """For a resource such as https://storage.azure.com. Raises IdentityDown.

        `fresh` asks the platform, which has a memory of its own: the answer may be the same token again.
        """
        ...


class Parts(Protocol):
    """What grants and providers are built of, each made when first asked for."""

    def client(self) -> httpx.AsyncClient: ...

    def vault(self) -> Vault: ...

    def certificates(self) -> Certificates: ...

    def identity(self) -> Identity: ...

    def store(self) -> Store: ...

    def call_seconds(self) -> float:
        """How long one `send` may take: timing.call."""
        ...


class Store(Protocol):
    """Blobs, table rows and queue tickets of one storage account. Every method raises StorageDown when storage does not answer.

    A container, table or queue that is missing is made on first use. No method repeats a conditional write whose answer was lost:
    that is StorageDown too, and the writer reads back its nonce.
    """

    def now(self) -> float:
        """Storage's clock in seconds since the epoch: the last `Date` seen, and what our monotonic clock says has passed since."""
        ...

    async def get_row(self, table: str, partition: str, key: str) -> Row | None: ...

    async def write(self, table: str, changes: Sequence[Change]) -> list[str]:
        """All or nothing, in one call: at most 100 changes of one partition. Returns the new ETags ("" for a deletion).

        Raises StorageConflict when a row to insert exists, one to merge or replace is gone, or one with an ETag has changed.
        A deletion without an ETag is content with a row that is gone.
        """
        ...

    async def query(self, table: str, partition: str, first: str = "", last: str = "", *, top: int | None = None) -> list[Row]:
        """Rows of one partition in key order, from `first` (included) to before `last` ("" for open), at most `top`."""
        ...

    async def old_rows(self, table: str, before: float, after: str = "") -> tuple[list[Row], str]:
        """Of one page of the whole table those whose `created` is before that time, and where the next page starts ("" at the end)."""
        ...

    async def put_blob(
        self, container: str, name: str, body: bytes, *, content_type: str = "application/octet-stream", only_if_absent: bool = False
    ) -> bool:
        """False when `only_if_absent` and it was there already."""
        ...

    async def get_blob(self, container: str, name: str) -> bytes | None: ...

    async def find_blob(self, container: str, name: str) -> Blob | None:
        """What is known of it without reading it; None when there is none."""
        ...

    async def read_blob(self, container: str, name: str, start: int, length: int, *, etag: str = "") -> bytes | None:
        """At most `length` bytes from `start` on, none behind its end; None when it is gone.

        Raises StorageConflict when `etag` is given and the blob has another by now.
        """
        ...

    async def delete_blob(self, container: str, name: str) -> None:
        """Quiet when it is gone already."""
        ...

    async def upload_link(self, container: str, name: str, lifetime: float) -> str:
        """A URL that lets whoever has it write this one blob for so many seconds, and do nothing else."""
        ...

    async def old_blobs(self, container: str, before: float, *, top: int = 1000) -> list[str]:
        """Names of blobs last modified before that time (seconds since the epoch), at most `top`."""
        ...

    async def put_ticket(self, queue: str, body: bytes, *, delay: float = 0.0) -> None:
        """Base64 on the wire, never expires (TTL -1), hidden for `delay` seconds (at most 7 days)."""
        ...

    async def receive(self, queue: str, *, top: int = 32, hide: float = 30.0) -> list[Ticket]:
        """Messages as a worker would get them; `body` is what base64 held, or the raw text where it was no base64."""
        ...

    async def delete_ticket(self, queue: str, ticket: Ticket) -> None:
        """Quiet when it is gone or its receipt is outdated."""
        ...

    async def queue_length(self, queue: str) -> int:
        """The approximate count, hidden ones included."""
        ...


class Sender(Protocol):
    """Sends through one provider. No method repeats a POST, ever: what may be sent again is the ledger's to say."""

    def check(self, message: Message) -> None:
        """Before anything is accepted: raises TooLarge when no path of this provider can carry the mail."""
        ...

    async def send(
        self, account: Account, mails: Sequence[Outgoing], token: Token, at_once: int = AT_ONCE
    ) -> list[Receipt | ProviderError]:
        """One answer for each mail, in order: what happened to it, as a Receipt or as the error that says what is known.

        With at most `at_once` requests in flight, since others are at work on the same mailbox.

        Cancelled from outside when the call's deadline is over; then nothing is known of any of them.
        """
        ...

    async def ask(self, account: Account, mails: Sequence[Outgoing], token: Token, at_once: int = AT_ONCE) -> list[Receipt | None]:
        """Was the mail with this stamp sent? None is "not found". Raises ProviderError when the question itself failed."""
        ...


@runtime_checkable
class Preparer(Protocol):
    """A Sender with mails that take more than one call: what can take long, and may be done again, is done before the fence."""

    def admit(self, account: Account, message: Message) -> None:
        """Before anything is accepted, and after `check`: raises TooLarge when the account lacks a permission that the mail needs."""
        ...

    async def prepare(self, account: Account, mail: Outgoing, token: Token) -> Outgoing | Receipt | ProviderError:
        """The mail ready for `send`, for mails with uploads; or a Receipt where it shows that it was sent before. Sends nothing.

        May be cancelled and repeated at will: it finds its own traces.
        """
        ...

    async def rehearse(self, account: Account, token: Token) -> None:
        """Proves the permissions that `prepare` needs, and leaves nothing behind. Raises ProviderError."""
        ...


class Inbox(Protocol):
    """Reads one folder of one mailbox, page by page."""

    async def page(self, account: Account, link: str | None, token: Token, *, ids_only: bool = False, since: float = 0.0) -> Page:
        """The page behind `link`, or the first one. Raises CursorLost when the provider has forgotten the link.

        A provider may leave out what was received before `since`, in seconds since the epoch: it is no news.
        """
        ...

    async def mime(self, account: Account, message_id: str, token: Token) -> bytes | None:
        """The mail as RFC 5322 bytes; None when it is gone by now."""
        ...


class CursorLost(Exception):
    """The provider no longer knows where we were: start afresh and reconcile (Graph: 410, syncStateNotFound)."""
