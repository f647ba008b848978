"""What Google's token endpoints answer, and what to do about a refusal. Pure.

developers.google.com/identity/protocols/oauth2/service-account, "JWT error codes"; cloud.google.com/iam/docs:
troubleshooting-workload-identity-federation
"""

from __future__ import annotations

from typing import TypeVar

import httpx
import msgspec

from mailroom import http
from mailroom.credentials._authority import down, host, skew, unreadable
from mailroom.errors import AccountFault, AuthorityDown, AuthorityRefused

_PASSING = frozenset({"internal_failure", "server_error", "temporarily_unavailable"})  # those that google-auth repeats, too
_SHOWN = 300

# error, a part of its description, our code, what to do about it
_MEANINGS = (
    ("invalid_grant", "short-lived token", "google_clock_skew", "Set this machine's clock: an assertion is good for one hour."),
    (
        "invalid_grant",
        "signature",
        "google_key_unknown",
        "The service account has no such key (any more): make a new one and set it in the vault, under the profile's `secret`.",
    ),
    ("invalid_grant", "account not found", "google_account_unknown", "There is no such service account: check its e-mail address."),
    (
        "invalid_grant",
        "user id",
        "google_mailbox_unknown",
        "Check the account's `address`: it must be the primary address of a user of the Workspace domain, no group and no alias.",
    ),
    ("invalid_grant", "audience", "google_audience_wrong", "Check the cloud's `google_authority`."),
    (
        "unauthorized_client",
        "",
        "google_not_delegated",
        "In the Workspace Admin console (Security, API controls, Domain-wide delegation) give the service account's numeric client id "
        "exactly these scopes: {scope}. A change may take a day.",
    ),
    ("invalid_scope", "", "google_scope_invalid", "Check the account's `permissions`."),
    ("disabled_client", "", "google_account_disabled", "Enable the service account in the Google Cloud console."),
    ("deleted_client", "", "google_account_unknown", "The service account was deleted: make a new one and delegate to it."),
    ("admin_policy_enforced", "", "google_policy", "The domain's policy for API access refuses the app: ask the Workspace administrator."),
    (
        "invalid_target",
        "",
        "google_provider_unknown",
        "Check the profile's `workload_provider`: the full name of a provider that exists and is enabled.",
    ),
)
_FEDERATION = "Check the issuer and the allowed audiences of the workload identity provider, and the profile's `audience`."

T = TypeVar("T")


class Given(msgspec.Struct, frozen=True):
    """RFC 6749, 5.1."""

    access_token: str
    expires_in: float


class Signed(msgspec.Struct, frozen=True):
    jwt: str = msgspec.field(name="signedJwt")


class _Refusal(msgspec.Struct, frozen=True):
    """RFC 6749, 5.2."""

    error: str
    error_description: str = ""


class _ApiError(msgspec.Struct, frozen=True):
    message: str = ""


class _ApiRefusal(msgspec.Struct, frozen=True):
    error: _ApiError


def given(response: httpx.Response, kind: type[T]) -> T:
    """What a good answer holds. Raises AuthorityDown for one that is none."""
    try:
        return msgspec.json.decode(response.content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise unreadable(host(str(response.url))) from error


def failure(response: httpx.Response, now: float, scope: str, *, federated: bool = False) -> AccountFault | None:
    """Of a token endpoint; None where the status is 200. `scope` is what was asked for, `federated` whether STS was asked."""
    if failed := down(response):
        return failed
    if response.status_code == 200:
        return None
    refusal = _decoded(response, _Refusal)
    if refusal is None:
        return unreadable(host(str(response.url)), response.status_code)
    if refusal.error in _PASSING:
        return _busy(response)
    code, step = _meaning(refusal)
    if federated and refusal.error == "invalid_grant":
        code, step = "google_federation_refused", _FEDERATION
    detail = _line(refusal.error_description) or f"Google answered {refusal.error}."
    if code == "google_clock_skew":
        detail += skew(response.headers, now)
    return AuthorityRefused(code, detail, step.format(scope=scope.replace(" ", ", ")), error=refusal.error)


def signing_failure(response: httpx.Response, email: str) -> AccountFault | None:
    """Of signJwt, whose errors are those of a Google API."""
    status = response.status_code
    if failed := down(response):
        return failed
    if status == 200:
        return None
    refusal = _decoded(response, _ApiRefusal)
    if refusal is None:
        return unreadable(host(str(response.url)), status)
    role = f"Give the federated identity the role Service Account Token Creator on {email},"
    step = f"{role} and enable the IAM Service Account Credentials API."
    code = "google_signing_denied" if status in (403, 404) else "google_signing_refused"
    if code == "google_signing_refused":  # 400 is about the claims, of which only the times can be wrong; 401 about the exchanged token
        step = "Set this machine's clock: an assertion is good for one hour." if status == 400 else _FEDERATION
    return AuthorityRefused(code, f"Google answered {status}: {_line(refusal.error.message)}", step, error=code)


def _busy(response: httpx.Response) -> AuthorityDown:
    detail = f"{host(str(response.url))} answered {response.status_code}."
    return AuthorityDown("authority_busy", detail, retry_after=http.retry_after(response.headers))


def _meaning(refusal: _Refusal) -> tuple[str, str]:
    described = refusal.error_description.lower()
    for error, part, code, step in _MEANINGS:
        if error == refusal.error and part in described:
            return code, step
    return f"google_{refusal.error}", "See the service account and its delegation in the Google Cloud and Admin consoles."


def _decoded(response: httpx.Response, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(response.content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):  # a proxy's or a gateway's page
        return None


def _line(text: str) -> str:
    return " ".join(text.split())[:_SHOWN]
