"""What an answer of Microsoft Graph says about a mail, or about a question. Pure.

learn.microsoft.com/graph/errors. That a 429 or 503 proves nothing: learn.microsoft.com/answers/questions/5629476; that a 504 may come
after the mail went: .../questions/2286986; that a 202 with Retry-After is a 202: github.com/microsoftgraph/msgraph-sdk-java/issues/1487.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

import httpx
import msgspec

from mailroom.errors import DeliveryInDoubt, NotSent, ProviderError, Refused, Throttled, TokenRejected
from mailroom.http import retry_after, untrusted

T = TypeVar("T")

BEFORE_THE_BODY = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)

_ACCOUNT_CODES = frozenset({"ErrorQuotaExceeded", "ErrorAccountSuspend", "ErrorExceededMessageLimit", "ErrorMessageSubmissionBlocked"})
_REFUSALS = {
    "ErrorInvalidRecipients": ("recipient_invalid", "Check the addresses in to, cc and bcc."),
    "ErrorSendAsDenied": (
        "send_as_denied",
        "Send from the account's own address; or let it send as the other: Add-RecipientPermission OTHER -Trustee ACCOUNT -AccessRights "
        "SendAs (on behalf: Set-Mailbox OTHER -GrantSendOnBehalfTo @{Add='ACCOUNT'}), then wait an hour.",
    ),
    "ErrorMessageSizeExceeded": (
        "mail_too_large",
        "Send less, or raise the mailbox's limit (35 MB unless it was changed, 150 MB at most): Set-Mailbox ACCOUNT -MaxSendSize 150MB.",
    ),
    "ErrorMimeContentInvalidBase64String": ("mime_invalid", "Send a well-formed RFC 5322 message."),
    "InvalidInternetMessageHeaderCollection": ("headers_invalid", "Send at most five headers, each beginning with x-."),
}
_SIGN_IN = {
    "ErrorInvalidUser": "Check the account's address: the tenant has no such mailbox.",
    "MailboxNotEnabledForRESTAPI": "Give the mailbox an Exchange Online licence; mailboxes on premises can't be used.",
    "MailboxNotSupportedForRESTAPI": "Give the mailbox an Exchange Online licence; mailboxes on premises can't be used.",
    "ErrorQuotaExceeded": "Make room in the mailbox: it is full.",
}
_ACCESS = (
    "Grant the app {0} for this mailbox: the role 'Application {0}' in Exchange, or the application permission {0} in Entra. "
    "A change takes up to two hours. Then run `mailroom check`."
)
_TRUST = "Check the cloud's graph URL; if a proxy answers in its place, its authority's certificate goes to SSL_CERT_FILE."
_LOST_CURSOR = re.compile("syncstate|resync|deltatoken", re.IGNORECASE)


class Inner(msgspec.Struct, frozen=True):
    """One answer inside a `$batch`."""

    id: str
    status: int
    headers: dict[str, str] = {}
    body: msgspec.Raw = msgspec.Raw(b"")


class _Error(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class _ErrorBody(msgspec.Struct, frozen=True):
    error: _Error


class _Item(msgspec.Struct, frozen=True):
    id: str


class _Items(msgspec.Struct, frozen=True):
    value: list[_Item]


class _Responses(msgspec.Struct, frozen=True):
    responses: list[Inner]


class _State(msgspec.Struct, frozen=True):
    draft: bool = msgspec.field(name="isDraft")


class _Session(msgspec.Struct, frozen=True):
    """The first answer's URL, and in any letters where the next range begins: `2097152`, `2097152-` or `2097152-3145727`."""

    url: str = msgspec.field(name="uploadUrl", default="")
    ranges: list[str] = msgspec.field(name="nextExpectedRanges", default_factory=list)


def to_send(status: int, headers: Mapping[str, str], body: bytes) -> ProviderError | None:
    """What became of the mail; None when Graph took it."""
    if status == 202:
        return None
    error = _error(body)
    if status == 401:
        return TokenRejected("token_rejected", _said(status, error))
    if status in (429, 503):
        wait = Throttled("throttled", _said(status, error), retry_after=retry_after(headers))
        wait.vague = status == 503
        return wait
    if status == 424:
        return NotSent("not_tried", "A mail before it in the same `$batch` failed.", "It goes by itself.", retry_after=1.0)
    return _refusal(status, error, "Mail.Send") or DeliveryInDoubt("answer_unclear", _said(status, error), retry_after=retry_after(headers))


def to_step(status: int, headers: Mapping[str, str], body: bytes, *done: int) -> ProviderError | None:
    """Why a draft did not come one step further; None when it did. Whatever went wrong, nothing was sent."""
    if status in done:
        return None
    error = _error(body)
    if status == 401:
        return TokenRejected("token_rejected", _said(status, error))
    if refusal := _refusal(status, error, "Mail.ReadWrite"):
        return refusal
    code = "throttled" if status in (429, 503) else "provider_failed"
    return NotSent(code, _said(status, error), retry_after=retry_after(headers))


def to_batch(status: int, headers: Mapping[str, str], body: bytes) -> ProviderError | None:
    """What became of all its mails, where the `$batch` as a whole failed. A batch that was refused was no fault of any one mail."""
    if status == 200:
        return None
    answer = to_send(status, headers, body)
    if answer is None:
        return DeliveryInDoubt("answer_unclear", f"Graph answered {status} to a batch.")
    return NotSent("batch_refused", answer.detail) if isinstance(answer, Refused) else answer


def to_question(status: int, headers: Mapping[str, str], body: bytes) -> ProviderError | None:
    """Why a question got no answer: reading changes nothing, so whatever went wrong, it may be asked again."""
    if status == 200:
        return None
    error = _error(body)
    if status == 401:
        return TokenRejected("token_rejected", _said(status, error))
    if status in (429, 503):
        return Throttled("throttled", _said(status, error), retry_after=retry_after(headers))
    if status in (403, 404):
        return _fault_of_the_account(status, error, "Mail.Read")
    return NotSent("provider_failed", _said(status, error), retry_after=retry_after(headers))


def lost_cursor(status: int, body: bytes) -> bool:
    """learn.microsoft.com/graph/delta-query-overview, "Synchronization reset": 410, or 40x with one of several codes."""
    return status == 410 or (400 <= status < 500 and _LOST_CURSOR.search(_error(body).code) is not None)


def unreadable(status: int, body: bytes) -> bool:
    """Whether the fault lies in this very mail, which Exchange can't turn into MIME."""
    return status >= 400 and _error(body).code in ("ErrorCorruptData", "ErrorContentConversionFailed", "ErrorMimeContentConversionFailed")


def gone(status: int, body: bytes) -> bool:
    return status == 404 and _error(body).code == "ErrorItemNotFound"


def inner(body: bytes) -> Mapping[int, Inner]:
    """The answers in a `$batch`, by position; they come in any order. What is missing or can't be read is not there."""
    try:
        answers = msgspec.json.decode(body, type=_Responses).responses
    except msgspec.DecodeError:
        return {}
    return {int(answer.id): answer for answer in answers if answer.id.isdecimal()}


def found(body: bytes) -> str | None:
    """The id of the first item that a question found."""
    try:
        items = msgspec.json.decode(body, type=_Items).value
    except msgspec.DecodeError as error:
        raise NotSent("answer_unreadable", f"Graph's answer to a question is no list: {error}.") from error
    return items[0].id if items else None


def is_draft(status: int, body: bytes) -> bool | None:
    """Whether the item waits to be sent; None when it is gone."""
    if status == 404:
        return None
    return _decoded(body, _State).draft


def made(body: bytes) -> str:
    """The id of what was made."""
    return _decoded(body, _Item).id


def session_url(body: bytes) -> str:
    """It carries its own authorization: never log it, and never send a token there."""
    return _decoded(body, _Session).url


def next_offset(body: bytes) -> int | None:
    """Where the upload goes on; None where the answer does not say."""
    try:
        ranges = msgspec.json.decode(body, type=_Session).ranges
    except msgspec.DecodeError:
        return None
    first = ranges[0].partition("-")[0].strip() if ranges else ""
    return int(first) if first.isdecimal() else None


def is_no(status: int, body: bytes) -> Refused | None:
    """Whether the answer to a part of an upload says that this very mail will never go."""
    error = _error(body)
    return _fault_of_the_mail(status, error) if error.code in _REFUSALS else None


def unsent(error: httpx.RequestError) -> ProviderError:
    """Before the body went nothing was sent. After that, nobody knows."""
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    return unanswered(error) if isinstance(error, BEFORE_THE_BODY) else DeliveryInDoubt("answer_lost", what)


def unanswered(error: httpx.RequestError) -> NotSent:
    if why := untrusted(error):
        return NotSent("certificate_untrusted", f"Graph's certificate is not trusted: {why.rstrip('.')}.", _TRUST)
    return NotSent("provider_unreachable", f"{type(error).__name__}: {error}".rstrip(": "), "Check the network and the cloud's graph URL.")


def _refusal(status: int, error: _Error, needed: str) -> NotSent | Refused | None:
    """What surely changed nothing. `needed` is the permission that a 403 is about."""
    if status in (403, 404) and error.code != "ErrorSendAsDenied":
        return _fault_of_the_account(status, error, needed)
    if status in (400, 403, 413):
        return _fault_of_the_account(status, error, needed) if error.code in _ACCOUNT_CODES else _fault_of_the_mail(status, error)
    return None


def _fault_of_the_account(status: int, error: _Error, needed: str) -> NotSent:
    code = "access_denied" if status == 403 else "mailbox_full" if error.code == "ErrorQuotaExceeded" else "mailbox_unavailable"
    return NotSent(code, _said(status, error), _SIGN_IN.get(error.code, _ACCESS.format(needed) if status == 403 else ""))


def _fault_of_the_mail(status: int, error: _Error) -> Refused:
    default = ("mail_too_large", "Send less in one mail.") if status == 413 else ("provider_refused", "Correct the mail and send it anew.")
    code, next_step = _REFUSALS.get(error.code, default)
    return Refused(code, _said(status, error), next_step)


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise NotSent("answer_unreadable", f"Graph's answer about a draft can't be read: {error}.") from error


def _error(body: bytes) -> _Error:
    try:
        return msgspec.json.decode(body, type=_ErrorBody).error
    except (msgspec.DecodeError, UnicodeDecodeError):  # a gateway's HTML, or nothing
        return _Error()


def _said(status: int, error: _Error) -> str:
    if not error.code:
        return f"Graph answered {status}."
    return f"Graph answered {status} {error.code}: {' '.join(error.message.split())[:300]}"
