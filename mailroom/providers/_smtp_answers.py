"""What an SMTP server's reply says about a mail, or about the account. Pure: one table, the first row that fits counts.

A 4yz or 5yz reply is proof that the mail was not taken (RFC 5321, 4.2.1 and 4.2.5), whenever it comes; only silence after the content began
leaves doubt. Exchange Online: learn.microsoft.com/exchange/troubleshoot/send-emails/smtp-submission-improvements,
.../mail-flow-best-practices/fix-issues-with-printers-scanners-and-lob-applications. Enhanced codes: RFC 3463.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from mailroom.errors import DeliveryInDoubt, NotSent, ProviderError, Refused, Throttled, TokenRejected

Stage = Literal["greeting", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "end"]
SIGNED_OUT: frozenset[Stage] = frozenset({"auth", "mail", "rcpt", "data", "end"})
HOUR = 3600.0

_LONG_RUN = re.compile(r"[A-Za-z0-9+/=_.~-]{40,}")  # a server may repeat what it was sent: a token, or its base64


class Reply(NamedTuple):
    """`text` has the lines of a reply of several joined by line breaks."""

    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.code} {' '.join(self.text.split())}"


class Row(NamedTuple):
    """`stops`: no further mail is pressed on this server now."""

    stages: str  # "" for every stage, else their names
    reply: str  # how the reply begins, or what stands in it: a regular expression
    kind: type[ProviderError]
    code: str
    next_step: str = ""
    retry_after: float | None = None
    stops: bool = False


class Meaning(NamedTuple):
    error: ProviderError
    stops: bool


_AUTH_OFF = "Turn on authenticated SMTP"
_GRANT = (
    "Check that the token is for Exchange (`scope`), that the app has SMTP.SendAsApp, its service principal in Exchange (object id of the "
    "enterprise application) and FullAccess to the mailbox, or for Gmail that the delegation has https://mail.google.com/."
)
_SEND_AS = "Send from the account's own address (`address`, or `from` with Send As granted to it in Exchange)."

ROWS: tuple[Row, ...] = (
    # signing in
    Row(
        "auth",
        r"5\.7\.139.*for the tenant",
        NotSent,
        "smtp_auth_disabled",
        f"{_AUTH_OFF} for the mailbox: Set-CASMailbox -SmtpClientAuthenticationDisabled $false; it wins over the tenant's setting.",
        stops=True,
    ),
    Row(
        "auth",
        r"5\.7\.139.*for the mailbox",
        NotSent,
        "smtp_auth_disabled",
        f"{_AUTH_OFF} for the mailbox: Set-CASMailbox -SmtpClientAuthenticationDisabled $false.",
        stops=True,
    ),
    Row(
        "auth",
        r"5\.7\.139.*security defaults",
        NotSent,
        "smtp_security_defaults",
        "Entra's security defaults turn SMTP AUTH off: replace them by Conditional Access policies, or send through Graph.",
        stops=True,
    ),
    Row(
        "auth",
        r"5\.7\.139",
        NotSent,
        "smtp_sign_in_blocked",
        "A Conditional Access policy or a setting of the tenant stops this sign-in: see the sign-in log of Entra ID.",
        stops=True,
    ),
    Row("auth", r"5\.7\.14[23]\b", TokenRejected, "token_expired", stops=True),
    Row(
        "auth",
        r"5\.7\.144\b",
        NotSent,
        "permission_missing",
        "Grant the app Mail.Send of Office 365 Exchange Online, with an administrator's consent.",
        stops=True,
    ),
    Row("", r"5\.7\.240\b", NotSent, "app_not_allowed", "Add the app to the account's allow-list: Add-HVEAppAccess.", stops=True),
    Row("", r"5\.7\.30\b", NotSent, "basic_refused", "Choose XOAUTH2 or OAUTHBEARER: passwords are not taken any more.", stops=True),
    Row(
        "auth",
        r"^501 5\.5\.12[1-6]\b",
        NotSent,
        "sign_in_malformed",
        "Check the account's `address`: it is the user that signs in.",
        stops=True,
    ),
    Row("auth", r"^535", TokenRejected, "token_rejected", _GRANT, stops=True),
    Row("auth", r"^(504|534|538)", NotSent, "mechanism_refused", "Set the account's `mechanism` to one that the server takes.", stops=True),
    Row(" ".join(SIGNED_OUT - {"auth"}), r"^530", TokenRejected, "signed_out", _GRANT, stops=True),
    # the pace
    Row(
        "",
        r"^4\d\d 4\.3\.2|concurrent connections|thread limit",
        Throttled,
        "throttled",
        "More than three connections to one mailbox: does another program send through it?",
        10.0,
        True,
    ),
    Row(
        "",
        r"SubmissionQuotaExceeded|5\.4\.5\b|5\.7\.23[23]\b",
        NotSent,
        "quota_exceeded",
        "The limit of recipients or mails a day is reached; spread them over mailboxes, or use a service for high volume.",
        HOUR,
        True,
    ),
    Row("", r"^4\d\d 4\.7\.\d+.*(thrott|rate|too many|limit)", Throttled, "throttled", "Lower the account's `rate`.", 60.0, True),
    Row("auth", r"^4", NotSent, "sign_in_unavailable", stops=True),
    Row("", r"^421", NotSent, "server_closing", "", 30.0, True),
    # who sends
    Row("mail rcpt data end", r"5\.7\.60\b|5\.2\.252\b|send ?as ?denied|not owned by", Refused, "send_as_denied", _SEND_AS),
    Row(
        "",
        r"5\.1\.8\b|5\.7\.70[58]\b",
        NotSent,
        "sender_blocked",
        "Exchange blocked the sender for what it sent: Defender portal, restricted entities.",
        HOUR,
        True,
    ),
    Row(
        "",
        r"5\.7\.64\b|4\.4\.62\b|TenantAttribution",
        NotSent,
        "connector_unmatched",
        "No inbound connector of the tenant matches: check its IP addresses or the certificate's name, and the sender's domain.",
        stops=True,
    ),
    # the mail
    Row("mail data end", r"^552|5\.3\.4\b|5\.2\.3\b", Refused, "mail_too_large", "Send less in one mail, or a link to it."),
    Row("end", r"5\.2\.2\b", NotSent, "mailbox_full", "Make room in the sender's mailbox: it is full.", stops=True),
    Row("rcpt", r"[45]\.5\.3\b|too many recipients", Refused, "recipients_too_many", "Send to fewer recipients at once."),
    Row("", r"5\.5\.105\b", Refused, "recipient_external", "High Volume Email reaches the tenant's own recipients alone."),
    Row(
        "rcpt",
        r"^5.*(5\.7\.54\b|relay)",
        Refused,
        "relay_denied",
        "This server takes mail for its own domains alone: sign in (provider smtp), or let the connector match.",
    ),
    Row("rcpt", r"^5", Refused, "recipient_refused", "Correct the recipient; the mail went to none of them."),
    Row("rcpt", r"^4", NotSent, "recipient_deferred", "The server may take the recipient later."),
    Row("mail", r"^5", NotSent, "sender_refused", "Check the account's `address` and `from`.", stops=True),
    Row("data end", r"^5", Refused, "provider_refused", "Correct the mail and send it anew."),
    Row(
        "starttls",
        r"^[45]",
        NotSent,
        "starttls_refused",
        "The server offers STARTTLS and cannot do it: tell its administrator.",
        stops=True,
    ),
    Row(
        "greeting ehlo",
        r"^5",
        NotSent,
        "server_refused",
        "The server takes no mail from here: check its host, and whether it bars our IP.",
        stops=True,
    ),
    Row("", r"^4", NotSent, "server_deferred"),
)


def meaning(stage: Stage, reply: Reply, host: str, *, signs_in: bool = True, own_sender: bool = True) -> Meaning:
    """What a reply means that is not the one hoped for.

    `own_sender`: the mail is from the account's own address, so that a sender who is refused is a fault of the account.
    """
    said = f"{host} answered {shown(reply)}"
    row = next((row for row in ROWS if _fits(row, stage, reply)), None)
    if row is None:
        unclear = DeliveryInDoubt if stage == "end" else NotSent
        return Meaning(unclear("answer_unclear", said), stops=True)
    if row.kind is TokenRejected and not signs_in:
        return Meaning(NotSent("sign_in_required", said, "This server wants a sign-in: use the provider smtp."), stops=True)
    if row.code == "send_as_denied" and own_sender:
        return Meaning(NotSent(row.code, said, row.next_step), stops=True)
    return Meaning(row.kind(row.code, said, row.next_step, retry_after=row.retry_after), row.stops)


def shown(reply: Reply) -> str:
    return _LONG_RUN.sub("…", str(reply))[:300]


def _fits(row: Row, stage: Stage, reply: Reply) -> bool:
    failed = 400 <= reply.code < 600
    return failed and (not row.stages or stage in row.stages.split()) and re.search(row.reply, str(reply), re.IGNORECASE) is not None
