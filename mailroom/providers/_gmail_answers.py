"""What an answer of the Gmail API says about a mail, or about a question. Pure.

developers.google.com/gmail/api/guides/handle-errors. A quota may be refused as 403 or as 429; that a 429 for sending may last hours:
the same page, "Mail sending limits".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypeVar

import httpx
import msgspec

from mailroom.errors import DeliveryInDoubt, NotSent, ProviderError, Refused, Throttled, TokenRejected
from mailroom.http import retry_after, untrusted

BEFORE_THE_BODY = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
DAY_PAUSE = 3600.0  # seconds after which a day's limit is tried again

_LIMITS = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "dailyLimitExceeded", "limitExceeded"})
_UNTIL = re.compile(r"Retry after (\d{4}-\d\d-\d\dT[\d:.]+Z)")
_ACCESS = {
    "insufficientPermissions": "Delegate the scope that is missing to the service account's client id, and say so in the account's "
    "`permissions`: {needs}.",
    "accessNotConfigured": "Enable the Gmail API in the service account's Google Cloud project.",
    "domainPolicy": "Let the Workspace administrator turn Gmail and access by API on for this user.",
    "forbidden": "Check the account's address: the token acts as another mailbox.",
}
_NO_MAIL = "Give the user a licence with Gmail, and turn the service on: the mailbox does not take mail by API."
_TRUST = "Check the cloud's gmail URL; if a proxy answers in its place, its authority's certificate goes to SSL_CERT_FILE."

T = TypeVar("T")


class Sent(msgspec.Struct, frozen=True):
    """messages.send."""

    id: str
    thread: str = msgspec.field(name="threadId", default="")


class Ref(msgspec.Struct, frozen=True):
    id: str
    thread: str = msgspec.field(name="threadId", default="")


class Listed(msgspec.Struct, frozen=True):
    """messages.list; `messages` is missing where there are none."""

    messages: list[Ref] = []
    next: str | None = msgspec.field(name="nextPageToken", default=None)


class _Part(msgspec.Struct, frozen=True):
    reason: str = ""


class _Error(msgspec.Struct, frozen=True):
    message: str = ""
    errors: list[_Part] = []

    @property
    def reason(self) -> str:
        return self.errors[0].reason if self.errors else ""


class _ErrorBody(msgspec.Struct, frozen=True):
    error: _Error


def to_send(status: int, headers: Mapping[str, str], body: bytes) -> ProviderError | None:
    """What became of the mail; None when Gmail took it."""
    if status == 200:
        return None
    error = _error(body)
    known = _known(status, headers, error, "gmail.send")
    if known:
        return known
    if status in (400, 413):
        return _fault_of_the_mail(status, error)
    return DeliveryInDoubt("answer_unclear", _said(status, error), retry_after=retry_after(headers))


def to_question(status: int, headers: Mapping[str, str], body: bytes, needs: str = "gmail.readonly") -> ProviderError | None:
    """Why a question got no answer: reading changes nothing, so whatever went wrong, it may be asked again."""
    if status == 200:
        return None
    error = _error(body)
    failed = NotSent("provider_failed", _said(status, error), retry_after=retry_after(headers))
    return _known(status, headers, error, needs) or failed


def lost_cursor(status: int, body: bytes) -> bool:
    """A history id that is too old is 404 ("Synchronize clients with Gmail"); a page's token that has ended 400."""
    return status == 404 or (
        status == 400 and re.search("page ?token|historyid|history_id", _error(body).message, re.IGNORECASE) is not None
    )


def found(body: bytes, kind: type[T]) -> T:
    """What a good answer holds. Raises NotSent, as of a question."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotSent("answer_unreadable", f"Gmail's answer can't be read: {error}.") from error


def unsent(error: httpx.RequestError) -> ProviderError:
    """Before the body went nothing was sent. After that, nobody knows."""
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    return unanswered(error) if isinstance(error, BEFORE_THE_BODY) else DeliveryInDoubt("answer_lost", what)


def unanswered(error: httpx.RequestError) -> NotSent:
    if why := untrusted(error):
        return NotSent("certificate_untrusted", f"Gmail's certificate is not trusted: {why.rstrip('.')}.", _TRUST)
    return NotSent("provider_unreachable", f"{type(error).__name__}: {error}".rstrip(": "), "Check the network and the cloud's gmail URL.")


def _known(status: int, headers: Mapping[str, str], error: _Error, needs: str) -> ProviderError | None:
    """What means the same for a mail and a question."""
    said = _said(status, error)
    if status == 401:
        return TokenRejected("token_rejected", said)
    if status in (429, 503) or (status == 403 and error.reason in _LIMITS):
        wait = Throttled("throttled", said, retry_after=_wait(headers, error))
        wait.vague = status == 503
        return wait
    if status == 403:
        return NotSent("access_denied", said, _ACCESS.get(error.reason, _ACCESS["insufficientPermissions"]).format(needs=needs))
    if status == 404 or error.reason == "failedPrecondition":
        return NotSent("mailbox_unavailable", said, _NO_MAIL)
    return None


def _wait(headers: Mapping[str, str], error: _Error, now: datetime | None = None) -> float | None:
    """As the header says, else as the message does: "Retry after 2026-11-24T12:00:00.000Z"."""
    told = retry_after(headers)
    until = _UNTIL.search(error.message)
    if told is None and until:
        at = datetime.fromisoformat(until[1].replace("Z", "+00:00"))
        told = max(0.0, (at - (now or datetime.now(UTC))).total_seconds())
    return DAY_PAUSE if told is None and error.reason == "dailyLimitExceeded" else told


def _fault_of_the_mail(status: int, error: _Error) -> Refused:
    if status == 413:
        return Refused("mail_too_large", _said(status, error), "Send less in one mail.")
    if re.search("recipient|invalid (to|cc|bcc) header", error.message, re.IGNORECASE):
        return Refused("recipient_invalid", _said(status, error), "Check the addresses in to, cc and bcc.")
    return Refused("provider_refused", _said(status, error), "Correct the mail and send it anew.")


def _error(body: bytes) -> _Error:
    try:
        return msgspec.json.decode(body, type=_ErrorBody).error
    except (msgspec.DecodeError, UnicodeDecodeError):  # a gateway's HTML, or nothing
        return _Error()


def _said(status: int, error: _Error) -> str:
    if not error.message:
        return f"Gmail answered {status}."
    return f"Gmail answered {status} {error.reason}".rstrip() + f": {' '.join(error.message.split())[:300]}"
