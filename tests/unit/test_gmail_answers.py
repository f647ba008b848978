"""What Gmail's answers are taken to mean, from bodies as Google documents them, without a network."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from mailroom.errors import DeliveryInDoubt, NotSent, ProviderError, Refused, Throttled, TokenRejected
from mailroom.model.account import Account, Cloud, Profile
from mailroom.model.message import Address, Attachment, Message, Outgoing
from mailroom.ports import CursorLost
from mailroom.providers import _gmail_answers as answers
from mailroom.providers import _gmail_json, gmail
from mailroom.providers._gmail_inbox import Place

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def body(reason: str, message: str = "What Google says.", domain: str = "global") -> bytes:
    return json.dumps({"error": {"code": 0, "message": message, "errors": [{"domain": domain, "reason": reason}]}}).encode()


def sending(status: int, content: bytes = b"", **headers: str) -> Any:
    return answers.to_send(status, httpx.Headers(headers), content)


@pytest.mark.parametrize(
    ("status", "reason", "kind", "code"),
    [
        (401, "authError", TokenRejected, "token_rejected"),
        (403, "rateLimitExceeded", Throttled, "throttled"),
        (403, "userRateLimitExceeded", Throttled, "throttled"),
        (403, "quotaExceeded", Throttled, "throttled"),
        (403, "insufficientPermissions", NotSent, "access_denied"),
        (403, "accessNotConfigured", NotSent, "access_denied"),
        (403, "domainPolicy", NotSent, "access_denied"),
        (403, "forbidden", NotSent, "access_denied"),
        (404, "notFound", NotSent, "mailbox_unavailable"),
        (400, "failedPrecondition", NotSent, "mailbox_unavailable"),
        (429, "rateLimitExceeded", Throttled, "throttled"),
        (503, "backendError", Throttled, "throttled"),
        (400, "invalidArgument", Refused, "provider_refused"),
        (413, "uploadTooLarge", Refused, "mail_too_large"),
        (500, "backendError", DeliveryInDoubt, "answer_unclear"),
        (302, "", DeliveryInDoubt, "answer_unclear"),
    ],
)
def test_what_a_refusal_means(status: int, reason: str, kind: type[ProviderError], code: str) -> None:
    """Each reason has its kind and code, and every one of the account's faults says what to do."""
    error = sending(status, body(reason))
    assert (type(error), error.code) == (kind, code)
    assert getattr(error, "vague", False) == (status == 503)
    assert str(status) in error.detail
    assert error.next_step or kind in (TokenRejected, Throttled, DeliveryInDoubt)


def test_what_was_taken() -> None:
    """200 is no failure; whether its body names the mail is the receipt's to see."""
    assert sending(200) is None


def test_each_fault_of_access_has_a_step_of_its_own() -> None:
    """A scope, an API that is off, a domain's policy: three different people to ask."""
    steps = {sending(403, body(reason)).next_step for reason in ("insufficientPermissions", "accessNotConfigured", "domainPolicy")}
    assert len(steps) == 3
    assert "gmail.send" in sending(403, body("insufficientPermissions")).next_step


@pytest.mark.parametrize(
    ("message", "code"),
    [("Recipient address required", "recipient_invalid"), ("Invalid To header", "recipient_invalid"), ("No.", "provider_refused")],
)
def test_a_wrong_recipient_is_named(message: str, code: str) -> None:
    """What Gmail says in words only is told apart by them."""
    assert sending(400, body("invalidArgument", message)).code == code


def test_how_long_to_wait() -> None:
    """By the header, else by the time in the message, else an hour where it is the day's limit."""
    later = datetime.now(UTC) + timedelta(minutes=10)
    told = body("rateLimitExceeded", f"User-rate limit exceeded.  Retry after {later:%Y-%m-%dT%H:%M:%S}.000Z")
    assert sending(429, told, **{"Retry-After": "3"}).retry_after == 3.0
    assert 590 < sending(429, told).retry_after <= 600
    assert sending(403, body("dailyLimitExceeded")).retry_after == 3600.0
    assert sending(429, body("rateLimitExceeded")).retry_after is None


@pytest.mark.parametrize("content", [b"", b"<html>", b'{"error": "invalid_grant"}', b"[]", b"\xff"])
def test_a_body_that_is_none_of_googles(content: bytes) -> None:
    """The status alone is told, and nothing raised."""
    assert sending(502, content).detail == "Gmail answered 502."


@pytest.mark.parametrize(
    ("status", "message", "lost"),
    [
        (404, "Requested entity was not found.", True),
        (400, "Invalid pageToken", True),
        (400, "Invalid value at 'start_history_id'", True),
        (400, "Mail service not enabled", False),
        (403, "No.", False),
        (500, "Backend Error", False),
    ],
)
def test_when_a_cursor_is_lost(status: int, message: str, lost: bool) -> None:
    """Only where Gmail says that the place is unknown: any other failure would walk the mailbox anew for nothing."""
    assert answers.lost_cursor(status, body("x", message)) is lost


@pytest.mark.parametrize("link", ["https://graph/delta", "", "label=INBOX", "label=INBOX&history=x&walk=maybe"])
def test_a_link_that_is_none_of_ours(link: str) -> None:
    """It is a lost cursor."""
    with pytest.raises(CursorLost):
        Place.read(link)


def test_a_place_comes_back_as_it_was() -> None:
    """Also with a page's token full of signs."""
    place = Place("Label_1", "123", walk=True, since=7, page="a+b/c==&d")
    assert Place.read(str(place)) == place


def account(*permissions: str, grant: str = "jwt_bearer") -> Account:
    cloud = Cloud("https://login", "https://graph/v1.0", "scope", "vault", "storage")
    profile = Profile("google", grant, "", "", cloud)
    return Account("billing", "gmail", "a@x.example", profile, permissions=frozenset(permissions), traits=gmail.TRAITS)


def test_only_the_declared_scopes_are_asked_for() -> None:
    """In a fixed order, so that the same permissions are the same token."""
    scope = "https://www.googleapis.com/auth/"
    assert gmail.scope(account("gmail.readonly", "gmail.send")) == f"{scope}gmail.send {scope}gmail.readonly"
    assert gmail.scope(account("gmail.modify")) == f"{scope}gmail.modify"


def test_only_googles_grants_sign_in() -> None:
    """An Entra grant for a Gmail account is a mistake in accounts.toml."""
    assert [key for key, _, _ in gmail.mistakes(account("gmail.send", grant="client_credentials"))] == ["auth"]
    assert not list(gmail.mistakes(account("gmail.send")))


def mail(**fields: Any) -> Outgoing:
    return Outgoing("s1", Message("billing", **{"to": (Address("ann@y.example"),), "text": "Hi"} | fields))


def test_a_mail_has_a_name_that_stays() -> None:
    """Its Message-ID is made of the stamp; a ready mail keeps its own and has the stamp on top."""
    built = _gmail_json.raw(mail(), "a@x.example", NOW)
    assert b"Message-ID: <s1@x.example>\r\n" in built
    assert b"X-Mailroom-Stamp: s1\r\n" in built
    ready = b"Message-ID: <own@y>\r\nTo: b@y.example\r\n\r\nHi\r\n"
    assert _gmail_json.raw(mail(mime=ready), "a@x.example", NOW) == b"X-Mailroom-Stamp: s1\r\n" + ready


def test_a_search_is_bounded_by_when_the_mail_was_accepted() -> None:
    """An hour before that, for clocks differ; thirty days where it is not known; any way in which the first recipient may stand."""
    known = _gmail_json.candidates(Outgoing("s1", mail().message, accepted=1_700_003_600.0), NOW, None)
    assert "after%3A1700000000" in known
    assert "labelIds=SENT" in known
    assert "%7Bto%3Aann%40y.example+cc%3Aann%40y.example+bcc%3Aann%40y.example%7D" in known
    thirty_days = int((NOW - timedelta(days=30)).timestamp())
    assert f"after%3A{thirty_days}" in _gmail_json.candidates(mail(), NOW, None)


@pytest.mark.parametrize("address", ["ann@bücher.example", "o'neil@y.example", '"a b"@y.example'])
def test_an_address_that_a_search_may_misread(address: str) -> None:
    """It is not searched for: another recipient is, or all that was sent is looked at, for to miss the mail would be to send it twice."""
    alone = _gmail_json.candidates(mail(to=(Address(address),)), NOW, None)
    assert "to%3A" not in alone
    assert "labelIds=SENT" in alone
    both = _gmail_json.candidates(mail(to=(Address(address), Address("b@y.example"))), NOW, None)
    assert "to%3Ab%40y.example" in both


def test_a_small_mail_is_not_written_to_be_measured() -> None:
    """Only what may be too large is, and then to the byte."""
    assert _gmail_json.too_large(mail().message, NOW) is None
    big = mail(attachments=(Attachment("a", b"x" * 27_000_000),)).message
    size = _gmail_json.too_large(big, NOW)
    assert size
    assert size > _gmail_json.LIMIT
