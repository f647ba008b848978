"""docs/errors.md, of what the code raises: `python -m tests.unit.error_page` writes it anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.unit.raised import KINDS, Problem, problems

PAGE = Path(__file__).parents[2] / "docs/errors.md"
AREAS: Mapping[str, tuple[str, ...]] = {  # of several, a code stands in the first
    "Mails and batches": ("send_mail", "receive_mail", "mailroom/model/decisions", "mailroom/model/second_try"),
    "Signing in at Entra ID and Google": ("mailroom/credentials", "mailroom/keyring", "token_refresh"),
    "The gate: who calls": ("mailroom/gate",),
    "The vault and the app's identity": ("mailroom/identity", "mailroom/storage/vault", "mailroom/storage/cert", "mailroom/storage/fit"),
    "Providers: what became of a mail": ("mailroom/providers",),
    "Storage and settings": ("mailroom",),
    "The command line": ("cli",),
}
# What the source does not say itself: where the detail is the other side's own words, or stands further off.
CAUSES = {
    "access_denied": "The provider answered 403: the permission is not granted for this mailbox.",
    "answer_unclear": "The provider answered with what says neither yes nor no.",
    "app_not_allowed": "The server answered 5.7.240: High Volume Email does not know the app.",
    "basic_refused": "The server answered 5.7.30: it takes no passwords.",
    "batch_refused": "Graph refused a batch as a whole; that is no fault of any mail in it.",
    "connector_unmatched": "The relay does not know us.",
    "field_type": "A field has a value of another type than it should.",
    "google_account_disabled": "Google answered disabled_client.",
    "google_account_unknown": "Google knows no such service account, or none any more.",
    "google_audience_wrong": "Google answered that the assertion is for somebody else.",
    "google_clock_skew": "The assertion is not in time for Google's clock.",
    "google_key_unknown": "Google does not know the key that signed.",
    "google_mailbox_unknown": "Google knows no such user to act for.",
    "google_not_delegated": "The domain has not delegated these scopes to the service account.",
    "google_policy": "Google answered admin_policy_enforced.",
    "google_provider_unknown": "Google answered invalid_target: it knows no such workload identity provider.",
    "google_scope_invalid": "Google knows no such scope.",
    "google_federation_refused": "Google does not take the managed identity's token.",
    "headers_invalid": "Graph does not take the mail's headers.",
    "id_taken": "The id was used before, with another mail.",
    "idempotency_key_reused": "The Idempotency-Key was used before, with another request.",
    "mailbox_full": "The sender's mailbox is full.",
    "mailbox_unavailable": "The tenant has no such mailbox, or none that can be used.",
    "mechanism_refused": "The server does not take this way to sign in.",
    "mime_invalid": "The provider cannot read the ready MIME message.",
    "permission_missing": "The server answered 5.7.144: the token lacks Mail.Send.",
    "provider_failed": "The provider failed, and nothing was sent.",
    "provider_refused": "The provider does not take the mail; its words are in the detail.",
    "quota_exceeded": "The mailbox has sent what it may in a day.",
    "recipient_deferred": "The server does not take a recipient now.",
    "recipient_external": "The server sends within the tenant alone.",
    "recipient_invalid": "A recipient is none that the provider, or the template, can use.",
    "recipient_refused": "The server does not take a recipient.",
    "relay_denied": "The server does not carry mail to that recipient for us.",
    "send_as_denied": "The mail is from another address than the account may send as.",
    "sender_blocked": "The server does not take mail from this sender any more.",
    "sender_refused": "The server does not take mail from this address.",
    "server_closing": "The server is about to close.",
    "server_deferred": "The server asks to come later.",
    "server_refused": "The server does not talk to us.",
    "settings_invalid": "accounts.toml or the environment is wrong; the detail has a line for each mistake.",
    "sign_in_malformed": "The server cannot read the sign-in.",
    "sign_in_unavailable": "The server cannot sign anybody in now.",
    "signed_out": "The server forgot that we are signed in.",
    "smtp_auth_disabled": "SMTP AUTH is turned off.",
    "smtp_security_defaults": "The tenant's security defaults turn SMTP AUTH off.",
    "smtp_sign_in_blocked": "The tenant does not let this sign-in through.",
    "starttls_refused": "The server failed to begin TLS.",
    "throttled": "The provider asks to wait.",
    "token_rejected": "The provider does not take the token (401, or 535 by SMTP).",
    "variable_missing": "A template uses a variable that a recipient does not have.",
}
STEPS = {
    "access_denied": "Grant the permission that `next_step` names, for this mailbox (docs/permissions.md); then run `mailroom check`.",
    "authority_refused": "See the sign-in log of Entra ID.",
    "mailbox_unavailable": "Check the account's address; give the mailbox a licence (Exchange Online, or Gmail).",
    "id_taken": "Give the other mail an id of its own.",
    "idempotency_key_reused": "Give the other request a key of its own.",
    "refused": "Correct the mail and send it anew.",
    "resolved": "Nothing: it is settled.",
    "settings_invalid": "Correct what each line names; `mailroom check` reads them too.",
    "storage_conflict": "Send the request again: somebody else was there at the same time.",
    "google_signing_denied": "Give the identity the role Service Account Token Creator; enable the IAM Service Account Credentials API.",
    "google_signing_refused": "400: set this machine's clock. 401: check the workload identity provider; the exchange is repeated.",
}
MEANINGS = {  # of AADSTS numbers: learn.microsoft.com/entra/identity-platform/reference-error-codes
    28000: "Several resources in one request.",
    50011: "The redirect URI is not registered.",
    50012: "The assertion is malformed.",
    50013: "The assertion's signature is wrong.",
    50027: "The assertion is no JWT that Entra can read.",
    50034: "No such user in the tenant.",
    50053: "The account is locked, or the address is blocked.",
    50055: "The password has expired.",
    50056: "The user has no password in Entra ID.",
    50057: "The user is disabled.",
    50059: "The request names no tenant.",
    50074: "Multi-factor authentication is needed.",
    50076: "Multi-factor authentication is needed from here, or by now.",
    50079: "The user has to enroll in multi-factor authentication.",
    50126: "Wrong user name or password.",
    50196: "The client asks for the same again and again.",
    53000: "Conditional Access wants a compliant device.",
    53003: "Conditional Access blocks the sign-in.",
    65001: "Nobody has consented.",
    65004: "The user said no.",
    70011: "The scope is malformed.",
    90002: "No such tenant.",
    90094: "An administrator has to consent.",
    500011: "The API that the token is for is not in this tenant.",
    500133: "The assertion is not in time.",
    530035: "The security defaults block the sign-in.",
    650053: "The API has no such permission.",
    650057: "The app registration does not list this API.",
    700016: "No such application in this tenant.",
    700021: "The assertion is from another application.",
    700022: "Several resources in one request.",
    700023: "The assertion is for somebody else.",
    700024: "The assertion is not in time: two clocks differ.",
    700025: "A public client showed a secret or a certificate.",
    700027: "The certificate that signed is not registered, or the signature is wrong.",
    700030: "The certificate's subject is not allowed.",
    700211: "Federated credential: no such issuer is trusted.",
    700212: "Federated credential: another audience is trusted.",
    700213: "Federated credential: another subject is trusted.",
    700229: "Federated credential: only tokens of applications are.",
    900023: "The tenant's name is malformed.",
    1002012: "The scope does not end in /.default.",
    5002727: "The assertion's header has another type.",
    7000112: "The application is disabled.",
    7000215: "Wrong client secret.",
    7000218: "Neither a secret nor a certificate was shown.",
    7000222: "The client secret has expired.",
    9001023: "This grant needs the tenant's own endpoint.",
}
HEAD = """\
# Errors

Every problem has a code that stays the same, and says what was found and what to do. Codes are for programs, the texts for people; `…`
stands for what differs. This page is computed from the source (`python -m tests.unit.error_page`), and a test holds it to that.

A code appears in the `code` of an HTTP problem (RFC 9457), of a mail's status, of a refused line of a batch, of an event (docs/events.md),
on the health page, or in what `mailroom` prints. The *kind* says whose fault it is and what happens by itself:

| kind | HTTP | what happens |
|---|---|---|
| BadInput, TooLarge | 400, 413 | the request is wrong; `field` says where. Correct it, send it again |
| Unauthorized, Forbidden | 401, 403 | the caller's token is no good, or may not do this |
| NotFound, Conflict | 404, 409 | nothing by that name, for this caller; the same id or key with another request |
| Refused | 422 | a fault of the mail itself: it will never go like this, and is not tried again |
| AuthorityRefused, VaultRefused | 202, 502 | the account cannot sign in: its mails stay pending, and it is tried again after a minute |
| AuthorityDown, VaultDown, IdentityDown | 202, 503 | the same, and it passes by itself; a time that was told to wait is kept |
| TokenRejected | 202 | nothing was sent. The token is barred everywhere, and one new one is tried at once |
| NotSent | 202 | surely not sent: tried again by itself |
| Throttled | 202 | the lane rests. The provider is asked before the mail goes again; where it can't be, a 503 leaves it in doubt |
| DeliveryInDoubt | 202 | nobody knows whether it was sent: never sent again before the provider was asked, or a person decided |
| StorageDown, StorageConflict | 503, 409 | nothing was accepted; the same Idempotency-Key makes a second try the same mail |
| BadSettings | 500 | the app does not start, or cannot do this |

For every other number of Entra ID's the code is `aadsts_` and the number, for an answer without one `authority_` and its `error`;
likewise `google_` and Google's `error`.
"""


def page() -> str:
    found: dict[str, list[Problem]] = {}
    for one in problems():
        found.setdefault(one.code, []).append(one)
    parts = [HEAD]
    for area, places in AREAS.items():
        codes = [code for code in sorted(found) if not number(code) and any(one.where.startswith(places) for one in found[code])]
        parts.append(f"\n## {area}\n\n| code | kind | what was found | what to do |\n|---|---|---|---|\n")
        parts += [_row(code, found.pop(code)) for code in codes]
    parts.append("\n## Numbers of Entra ID's\n\n| code | what it means | what to do |\n|---|---|---|\n")
    parts += [
        f"| `{code}` | {MEANINGS[number(code)]} | {_cell(one.next_step for one in found[code])} |\n" for code in sorted(found, key=number)
    ]
    return "".join(parts)


def number(code: str) -> int:
    """0 where it is no AADSTS number's."""
    digits = code.removeprefix("aadsts_")
    return int(digits) if digits.isdigit() else 0


def _row(code: str, known: list[Problem]) -> str:
    kinds = ", ".join(sorted({one.kind for one in known}))
    causes = [one.detail for one in known if one.detail.strip("…/ :.")]
    steps = [one.next_step or KINDS[one.kind].usual_step for one in known if one.next_step.strip("… ") or KINDS[one.kind].usual_step]
    if code in STEPS:
        steps = [STEPS[code]]
    return f"| `{code}` | {kinds} | {_cell(causes or [CAUSES[code]])} | {_cell(steps)} |\n"


def _cell(texts: Iterable[str]) -> str:
    shown = dict.fromkeys(" ".join(text.split()).replace("|", "\\|") for text in texts if text)
    if not shown:
        raise LookupError("a code without a cause or without a step")
    return " · ".join(shown)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
