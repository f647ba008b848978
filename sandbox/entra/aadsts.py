"""How Entra refuses: AADSTS numbers with their texts, and the shape they come in.

Numbers and meanings: learn.microsoft.com/entra/identity-platform/reference-error-codes. Texts and statuses as public traces show them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sandbox.entra.aadsts_users import USER_REFUSALS

SEE_CERTIFICATES = (
    "Review the documentation at https://docs.microsoft.com/azure/active-directory/develop/active-directory-certificate-credentials ."
)

SEE_FEDERATION = (
    "Check your federated identity credential Subject, Audience and Issuer against the presented assertion. "
    "https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
)

REFUSALS: dict[int, tuple[int, str, str]] = {  # number: status, `error`, text
    50013: (400, "invalid_grant", "Assertion failed signature validation. [Reason - The key was not found.]"),
    50027: (400, "invalid_request", "JWT token is invalid or malformed."),
    50059: (
        400,
        "invalid_request",
        "No tenant-identifying information found in either the request or implied by any provided credentials.",
    ),
    70003: (400, "unsupported_grant_type", "The app requested an unsupported grant type '{grant}'."),
    70011: (
        400,
        "invalid_scope",
        "The provided request must include a 'scope' input parameter. The provided value for the input parameter 'scope' is not valid. "
        "The scope {scope} is not valid. .default scope can't be combined with resource-specific scopes.",
    ),
    90002: (
        400,
        "invalid_request",
        "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. "
        "Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant.",
    ),
    500011: (
        400,
        "invalid_resource",
        "The resource principal named {resource} was not found in the tenant named {tenant}. This can happen if the application has not "
        "been installed by the administrator of the tenant or consented to by any user in the tenant. You might have sent your "
        "authentication request to the wrong tenant.",
    ),
    700016: (
        400,
        "unauthorized_client",
        "Application with identifier '{client_id}' was not found in the directory '{tenant}'. This can happen if the application has not "
        "been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your "
        "authentication request to the wrong tenant.",
    ),
    700021: (
        401,
        "invalid_client",
        f"Client assertion application identifier doesn't match 'client_id' parameter. {SEE_CERTIFICATES}",
    ),
    700022: (
        400,
        "invalid_scope",
        "The provided value for the input parameter 'scope' is not valid because it contains more than one resource. "
        "Scope {scope} is not valid.",
    ),
    700023: (401, "invalid_client", f"Client assertion audience claim does not match Realm issuer. {SEE_CERTIFICATES}"),
    700024: (
        401,
        "invalid_client",
        "Client assertion is not within its valid time range. Current time: {now}, assertion valid from {start}, "
        f"expiry time of assertion {{end}}. {SEE_CERTIFICATES}",
    ),
    700027: (401, "invalid_client", "{text}"),
    700211: (
        401,
        "invalid_client",
        f"No matching federated identity record found for presented assertion issuer '{{issuer}}'. {SEE_FEDERATION}",
    ),
    700212: (
        401,
        "invalid_client",
        f"No matching federated identity record found for presented assertion audience '{{audience}}'. {SEE_FEDERATION}",
    ),
    700213: (
        401,
        "invalid_client",
        f"No matching federated identity record found for presented assertion subject '{{subject}}'. {SEE_FEDERATION}",
    ),
    900144: (400, "invalid_request", "The request body must contain the following parameter: '{parameter}'."),
    1002012: (
        400,
        "invalid_scope",
        "The provided value for scope {scope} is not valid. Client credential flows must have a scope value with /.default suffixed to "
        "the resource identifier (application ID URI).",
    ),
    5002727: (400, "invalid_request", "Invalid JWT header type specified, must be 'JWT' or 'http://openid.net/specs/jwt/1.0'."),
    7000112: (400, "unauthorized_client", "Application '{client_id}'({name}) is disabled."),
    7000215: (
        401,
        "invalid_client",
        "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret "
        "ID, for a secret added to app '{client_id}'.",
    ),
    7000218: (401, "invalid_client", "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."),
    7000222: (
        401,
        "invalid_client",
        "The provided client secret keys for app '{client_id}' are expired. Visit the Azure portal to create new keys for your app: "
        "https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: https://aka.ms/certCreds.",
    ),
    **USER_REFUSALS,
}


class Refusal(Exception):
    def __init__(self, number: int, **values: str) -> None:
        self.number = number
        self.status, self.error, text = REFUSALS[number]
        self.text = f"AADSTS{number}: {text.format(**values)}"
        super().__init__(self.text)

    def body(self, authority: str, trace: str, correlation: str, now: float) -> dict[str, Any]:
        timestamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        return {
            "error": self.error,
            "error_description": f"{self.text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {timestamp}",
            "error_codes": [self.number],
            "timestamp": timestamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"{authority}/error?code={self.number}",
        }
