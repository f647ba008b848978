"""What to do about a refusal of Entra ID, by its AADSTS number.

learn.microsoft.com/entra/identity-platform/reference-error-codes. Programs branch on `error`; the numbers are for people.
"""

from __future__ import annotations

from mailroom.errors import AuthorityRefused

_SECRET = "Set a new secret's value (not its id) in the vault, under the name that the profile's `secret` gives."  # noqa: S105  # advice
_CERTIFICATE = (
    "Register the newest version of the vault's certificate (its public part) with the app registration, or name the right one in "
    "`certificate`."
)
_ASSERTION = "Check the profile's `tenant`, `cloud` and `algorithm`; then make a new version of the certificate and register it."
_CLOCK = "Set this machine's clock: a signed request is good for a few minutes only."
_TENANT = "Check `tenant` and `cloud` of the profile."
_APP = "Check `client_id` and `tenant` of the profile: the app registration must be in that tenant, or consented to there."
_CONSENT = (
    "Let an administrator grant the app registration its application permissions (Entra admin center: API permissions, Grant consent)."
)
_RESOURCE = "Check the profile's `cloud`: this cloud's tenant does not know the API that the token is for; then the app's API permissions."
_FEDERATED = (
    "Give the app registration a federated credential (Certificates & secrets) for the managed identity that this app runs as: a "
    "user-assigned one of the same tenant, by its object (principal) id, with the audience that the cloud's `exchange_audience` names."
)
_SUBJECT = (
    "The federated credential takes tokens of the managed identity itself alone: check AZURE_CLIENT_ID, and that no other program's token "
    "is at IDENTITY_ENDPOINT."
)
_ONE_API = "Check the account's `permissions`: all of them must be of one API, for a token is for one."
_POLICY = "Let an administrator look at the sign-in log: a Conditional Access policy for workload identities refuses this app."

NEXT_STEPS = {
    7000215: _SECRET,
    7000222: "The secret has expired: make a new one at the app registration and set it in the vault, under the profile's `secret`.",
    7000218: "Name a `secret` or a `certificate` in the profile.",
    700025: "Turn off 'Allow public client flows' at the app registration, or use another one: this one takes no secret or certificate.",
    700027: _CERTIFICATE,
    700030: _CERTIFICATE,
    700021: _ASSERTION,
    700023: _ASSERTION,
    700211: _FEDERATED,
    700212: _FEDERATED,
    700213: _FEDERATED,
    700229: _SUBJECT,
    50012: _ASSERTION,
    50013: _ASSERTION,
    500133: _ASSERTION,
    50027: _ASSERTION,
    5002727: _ASSERTION,
    700024: _CLOCK,
    700016: _APP,
    7000112: "The app registration is disabled: let an administrator enable its enterprise application.",
    90002: _TENANT,
    900023: _TENANT,
    50059: _TENANT,
    500011: _RESOURCE,
    650057: _RESOURCE,
    70011: _RESOURCE,
    700022: _ONE_API,
    28000: _ONE_API,
    1002012: _RESOURCE,
    65001: _CONSENT,
    53003: _POLICY,
    530035: _POLICY,
    50196: "The app asks for the same token too often: look for other programs that use this client id.",
}

PASSING = frozenset({90033})  # a fault of the moment
THROTTLED = 90055  # the tenant is
CLOCK_SKEW = 700024
UNKNOWN_KEY = 700027
UNMENDED = frozenset({700021, 700023, CLOCK_SKEW, 700025, 700211, 700212, 700213})  # by any other secret or key of the app's
TENANT_MISSING = frozenset({90002, 900023})


def next_step(number: int | None, error: str) -> str:
    if number in NEXT_STEPS:
        return NEXT_STEPS[number]
    return "Check the profile's client_id, secret or certificate." if error == "invalid_client" else "See the sign-in log of Entra ID."


def another_may_do(refused: AuthorityRefused) -> bool:
    """Whether the application is known but not what it came with: then a newer secret or an older certificate may do."""
    return refused.error == "invalid_client" and refused.code not in {code(number) for number in UNMENDED}


def code(number: int) -> str:
    return f"aadsts_{number}"
