"""Verifies a federated credential: the token of another identity of this tenant, such as a managed one, in place of a secret.

learn.microsoft.com/entra/workload-id/workload-identity-federation-config-app-trust-managed-identity. Issuer, subject and audience must be
those that were registered, to the letter; the token itself must be a good one of that issuer's, which here is this tenant.
"""

from __future__ import annotations

from sandbox.directory import App, BadToken, Directory
from sandbox.entra.aadsts import Refusal
from sandbox.entra.assertion import parse


def presented(assertion: str) -> bool:
    """An application that signs for itself is its own issuer, by client id; another identity's token names its issuer's URL."""
    return str(parse(assertion).claims.get("iss")).startswith("https://")


def verify(assertion: str, app: App, directory: Directory) -> None:
    """Raises Refusal."""
    claims = parse(assertion).claims
    issuer, subject, audience = (str(claims.get(name)) for name in ("iss", "sub", "aud"))
    same_issuer = [known for known in app.federated if known.issuer == issuer]
    if not same_issuer:
        raise Refusal(700211, issuer=issuer)
    same_subject = [known for known in same_issuer if known.subject == subject]
    if not same_subject:
        raise Refusal(700213, subject=subject)
    if not any(audience in _names(directory, known.audience) for known in same_subject):
        raise Refusal(700212, audience=audience)
    _check_token(assertion, directory)


def _names(directory: Directory, audience: str) -> set[str]:
    """A tenant's own tokens carry the client id of the exchange's resource, where the credential says api://AzureADTokenExchange."""
    resource = directory.resource(audience)
    return {audience, resource.audience} if resource else {audience}


def _check_token(assertion: str, directory: Directory) -> None:
    try:
        directory.keys.verify(assertion)
    except BadToken as error:
        if "Lifetime" in error.reason:
            raise Refusal(700024, now="now", start="its nbf", end="its exp") from error
        raise Refusal(50013) from error
