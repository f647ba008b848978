"""What to do where Entra ID refuses a user, by AADSTS number: with a password, or with a refresh token.

learn.microsoft.com/entra/identity-platform/reference-error-codes. What stands here goes before the advice for applications in `_aadsts.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from mailroom.errors import AuthorityRefused

_MFA = (
    'A sign-in with a password alone cannot answer multi-factor authentication. Move this mailbox to grant = "refresh_token" and '
    "`mailroom login`, or to an application permission; or let an administrator exempt this user."
)
_POLICY = "Let an administrator look at this user's sign-in log: a Conditional Access policy or the security defaults refuse this sign-in."
_CONSENT = (
    "Grant the app registration the delegated permissions (not the application ones), and let an administrator consent to them "
    "(Entra admin center: API permissions, Grant consent)."
)
_PUBLIC = (
    "Turn on 'Allow public client flows' at the app registration (Authentication), or name its `secret` or `certificate` in the profile."
)

PASSWORD_STEPS: Mapping[int, str] = {
    50034: "Check `username` and `tenant` of the profile: this user is not in that tenant.",
    50126: "Set the user's password as a new version of the secret that `password_secret` names; too many wrong ones lock the account.",
    50055: "The password has expired: let the user change it, then set the new one in the vault, under `password_secret`.",
    50053: "The account is locked, or this address is blocked, after too many wrong passwords: correct the one in the vault, then wait.",
    50057: "The user is disabled: let an administrator enable the account, or use another one.",
    50056: 'This user has no password in Entra ID: use grant = "refresh_token" and `mailroom login`.',
    50074: _MFA,
    50076: _MFA,
    50079: _MFA,
    53003: _POLICY,
    53000: _POLICY,
    530035: _POLICY,
    65001: _CONSENT,
    7000218: _PUBLIC,
    9001023: "Name the tenant's GUID or domain in `tenant`.",
}

FEDERATED = (
    "This user's domain is federated: Entra ID does not know the password, and we send it nowhere else. Let an administrator set up "
    'password hash sync and a home realm discovery policy with cloud password validation, or use grant = "refresh_token".'
)

REFRESH_STEPS: Mapping[int, str] = {
    50057: PASSWORD_STEPS[50057],
    53000: _POLICY,
    53003: _POLICY,
    530035: _POLICY,
    7000218: _PUBLIC,
}

LOGIN_STEPS: Mapping[int, str] = {
    **REFRESH_STEPS,
    50011: "Add the redirect URI http://localhost to the app registration (Authentication, Mobile and desktop applications; or Web).",
    65001: _CONSENT,
    65004: "Run the command again, and accept; where an administrator has to consent, let them do so first.",
    90094: "Let an administrator consent to the delegated permissions first (Entra admin center: API permissions, Grant consent).",
    650053: "Check the account's `permissions`: the API that the token is for knows no such delegated permission.",
}


def explained(refused: AuthorityRefused, step: str) -> AuthorityRefused:
    """The same refusal with another next step."""
    ids = {"trace_id": refused.trace_id, "correlation_id": refused.correlation_id}
    return AuthorityRefused(refused.code, refused.detail, step, error=refused.error, **ids)


def number_of(refused: AuthorityRefused) -> int:
    """0 for a refusal without one."""
    digits = refused.code.removeprefix("aadsts_")
    return int(digits) if digits.isdigit() else 0


def login(profile: str) -> str:
    return f"Run `mailroom login ACCOUNT`, for an account of [auth.{profile}]: somebody has to sign in once more."
