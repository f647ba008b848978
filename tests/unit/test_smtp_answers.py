"""What each reply of an SMTP server proves: every row of the table by a reply that real servers give."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from mailroom.errors import DeliveryInDoubt, NotSent, ProviderError, Refused, Throttled, TokenRejected
from mailroom.providers._smtp_answers import ROWS, Reply, Row, Stage, meaning, shown

HOST = "smtp.example.com"

# stage, reply, kind, code, whether it stops the mails behind it
SAID: list[tuple[Stage, str, type[ProviderError], str, bool]] = [
    (
        "auth",
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled",
        NotSent,
        "smtp_auth_disabled",
        True,
    ),
    (
        "auth",
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.",
        NotSent,
        "smtp_auth_disabled",
        True,
    ),
    (
        "auth",
        "535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy.",
        NotSent,
        "smtp_security_defaults",
        True,
    ),
    (
        "auth",
        "535 5.7.139 Authentication unsuccessful, the request did not meet the criteria to be authenticated successfully.",
        NotSent,
        "smtp_sign_in_blocked",
        True,
    ),
    ("auth", "535 5.7.142 Token is about to expire", TokenRejected, "token_expired", True),
    ("auth", "535 5.7.143 Token has expired", TokenRejected, "token_expired", True),
    ("auth", "535 5.7.144 Token has wrong API permissions", NotSent, "permission_missing", True),
    ("end", "550 5.7.240 App is not allowed for this account", NotSent, "app_not_allowed", True),
    ("auth", "550 5.7.30 Basic authentication is not supported for Client Submission.", NotSent, "basic_refused", True),
    ("auth", "501 5.5.121 XOAUTH2 string is malformed", NotSent, "sign_in_malformed", True),
    ("auth", "535 5.7.3 Authentication unsuccessful [AM0PR01CA0001.eurprd01.prod.outlook.com]", TokenRejected, "token_rejected", True),
    ("auth", "535 5.7.8 Username and Password not accepted.", TokenRejected, "token_rejected", True),
    ("auth", "504 5.7.4 Unrecognized authentication type", NotSent, "mechanism_refused", True),
    ("auth", "534 5.7.9 Please log in with your web browser", NotSent, "mechanism_refused", True),
    ("mail", "530 5.7.57 SMTP; Client was not authenticated to send anonymous mail during MAIL FROM", TokenRejected, "signed_out", True),
    ("auth", "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending", Throttled, "throttled", True),
    ("end", "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded", Throttled, "throttled", True),
    ("end", "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException.MapiExceptionX", NotSent, "quota_exceeded", True),
    ("end", "550 5.4.5 Daily user sending limit exceeded.", NotSent, "quota_exceeded", True),
    ("end", "550 5.7.233 Tenant has exceeded its external recipient rate limit", NotSent, "quota_exceeded", True),
    ("mail", "450 4.7.1 Rate limit reached", Throttled, "throttled", True),
    ("auth", "454 4.7.0 Temporary authentication failure", NotSent, "sign_in_unavailable", True),
    ("mail", "421 4.4.2 Connection timed out", NotSent, "server_closing", True),
    ("end", "421 4.4.0 Shutting down", NotSent, "server_closing", True),
    ("mail", "550 5.7.60 SMTP; Client does not have permissions to send as this sender", NotSent, "send_as_denied", True),
    ("end", "554 5.2.252 SendAsDenied; a@x.example not allowed to send as b@x.example", NotSent, "send_as_denied", True),
    ("end", "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied", NotSent, "send_as_denied", True),
    ("rcpt", "553 5.7.1 <b@x.example>: Sender address rejected: not owned by user a@x.example", NotSent, "send_as_denied", True),
    ("end", "550 5.1.8 Access denied, bad outbound sender", NotSent, "sender_blocked", True),
    ("mail", "550 5.7.708 Service unavailable. Access denied, traffic not accepted from this IP", NotSent, "sender_blocked", True),
    ("mail", "550 5.7.64 TenantAttribution; Relay Access Denied", NotSent, "connector_unmatched", True),
    ("mail", "451 4.4.62 Mail sent to the wrong Office 365 region", NotSent, "connector_unmatched", True),
    ("mail", "552 5.3.4 Message size exceeds fixed maximum message size", Refused, "mail_too_large", False),
    ("end", "552 5.2.3 Message exceeds size limit", Refused, "mail_too_large", False),
    ("end", "554 5.2.2 mailbox full", NotSent, "mailbox_full", True),
    ("rcpt", "452 4.5.3 Too many recipients", Refused, "recipients_too_many", False),
    ("rcpt", "550 5.5.3 Too many recipients", Refused, "recipients_too_many", False),
    ("rcpt", "550 5.5.105 External recipients are not allowed", Refused, "recipient_external", False),
    ("rcpt", "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain", Refused, "relay_denied", False),
    ("rcpt", "554 5.7.1 <ann@y.example>: Relay access denied", Refused, "relay_denied", False),
    ("rcpt", "550 5.1.1 <ann@y.example>: User unknown", Refused, "recipient_refused", False),
    ("rcpt", "552 5.2.2 The recipient's mailbox is full", Refused, "recipient_refused", False),
    ("rcpt", "450 4.2.1 Greylisted, come again", NotSent, "recipient_deferred", False),
    ("mail", "501 5.1.7 Invalid address", NotSent, "sender_refused", True),
    ("end", "550 5.7.1 Message rejected as spam", Refused, "provider_refused", False),
    ("data", "554 5.5.1 No valid recipients", Refused, "provider_refused", False),
    ("starttls", "454 4.7.0 TLS not available", NotSent, "starttls_refused", True),
    ("greeting", "554 5.7.1 Your access to this mail system has been rejected", NotSent, "server_refused", True),
    ("end", "451 4.3.0 Temporary lookup failure", NotSent, "server_deferred", False),
]


def reply(text: str) -> Reply:
    code, _, said = text.partition(" ")
    return Reply(int(code), said)


@pytest.mark.parametrize(("stage", "text", "kind", "code", "stops"), SAID, ids=[f"{stage}-{text[:14]}" for stage, text, *_ in SAID])
def test_what_a_reply_proves(stage: Stage, text: str, kind: type, code: str, stops: bool) -> None:
    """Its kind, its code, and whether the mails behind it are still to be tried; who reads it learns what was said and what to do."""
    error, halts = meaning(stage, reply(text), HOST)
    assert (type(error), error.code, halts) == (kind, code, stops)
    assert error.detail.startswith(f"{HOST} answered {text[:3]}")
    assert error.next_step


def test_every_row_is_met() -> None:
    """No row of the table is shadowed by the ones above it."""

    def row_of(stage: Stage, text: str) -> Row:
        found = (row for row in ROWS if (not row.stages or stage in row.stages.split()) and re.search(row.reply, text, re.IGNORECASE))
        return next(found)

    assert {row_of(stage, text) for stage, text, *_ in SAID} == set(ROWS)


def test_rows_name_stages_that_are() -> None:
    """A misspelt stage would make a row that never counts."""
    assert {stage for row in ROWS for stage in row.stages.split()} <= set(get_args(Stage))


@pytest.mark.parametrize("stage", get_args(Stage))
@pytest.mark.parametrize(("first", "kind"), [("450 4.0.0 Hm", (NotSent, Throttled)), ("550 5.0.0 Hm", (NotSent, Refused))])
def test_an_unknown_refusal_is_no_doubt(stage: Stage, first: str, kind: tuple[type, ...]) -> None:
    """4yz and 5yz prove that nothing was taken, at every stage (RFC 5321, 4.2.1); 4yz never ends a mail."""
    error, _ = meaning(stage, reply(first), HOST)
    assert isinstance(error, kind)
    assert first[0] == "5" or not isinstance(error, Refused)


@pytest.mark.parametrize("code", [-1, 0, 120, 199, 300, 354, 399, 600, 999])
def test_what_is_no_answer_leaves_doubt_only_after_the_content(code: int) -> None:
    """What nobody may answer to the final dot proves nothing; before it, nothing of the mail was there."""
    assert isinstance(meaning("end", Reply(code, "?"), HOST).error, DeliveryInDoubt)
    assert isinstance(meaning("rcpt", Reply(code, "?"), HOST).error, NotSent)


def test_whose_fault_a_refused_sender_is() -> None:
    """The account's where it sends as itself, the mail's where that names somebody else."""
    denied = reply("554 5.2.252 SendAsDenied; a not allowed to send as b")
    assert isinstance(meaning("end", denied, HOST).error, NotSent)
    other = meaning("end", denied, HOST, own_sender=False)
    assert (type(other.error), other.stops) == (Refused, False)


def test_a_relay_has_no_token_to_reject() -> None:
    """Asked to sign in, a relay's account is at fault."""
    error, stops = meaning("mail", reply("530 5.7.57 Client not authenticated"), HOST, signs_in=False)
    assert (type(error), error.code, stops) == (NotSent, "sign_in_required", True)


def test_no_token_is_in_what_is_shown() -> None:
    """A server that repeats what it was sent makes no token of ours known."""
    token = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJodHRwczovL291dGxvb2sifQ.c2ln" * 3
    assert shown(Reply(500, f"unknown command\n{token}")) == "500 unknown command …"
    assert len(shown(Reply(500, "long " * 1000))) == 300
