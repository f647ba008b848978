"""The token endpoint for service accounts (RFC 7523, 2.1), and how a workload of another cloud gets there without a key.

developers.google.com/identity/protocols/oauth2/service-account, cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token,
cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/signJwt
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from sandbox.google.errors import ApiError, OAuthError, bad, invalid_grant, unauthenticated
from sandbox.google.workspace import CLOUD, KNOWN_SCOPES, ServiceAccount, Workspace
from sandbox.signing import BadToken

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
AUDIENCE = "https://oauth2.googleapis.com/token"  # wherever the endpoint is served: google-auth knows no other
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
JWT_TYPES = ("urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token")
HOUR, SIGNED_AT_MOST = 3600, 12 * 3600
_TIMES = (
    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
    "Check your iat and exp values in the JWT claim."
)
_UNAUTHORIZED = (
    "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any of the scopes requested."
)


def token(workspace: Workspace, form: Mapping[str, str]) -> dict[str, Any]:
    """Raises OAuthError."""
    if form.get("grant_type") != JWT_BEARER:
        raise OAuthError("unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type', '')}")
    if not form.get("assertion"):
        raise OAuthError("invalid_request", "Missing required parameter: assertion")
    header, claims, signed, signature = _parsed(form["assertion"])
    account = workspace.accounts.get(str(claims.get("iss")))
    if account is None:
        raise invalid_grant("Invalid grant: account not found")
    if account.disabled:
        raise OAuthError("disabled_client", "The OAuth client was disabled.", 401)
    _check_signature(account, header, signed, signature)
    if claims.get("aud") not in (AUDIENCE, f"{workspace.url}/token"):
        raise invalid_grant(f"Invalid JWT: Failed audience check. The right audience is {AUDIENCE}")
    _check_times(claims, workspace.now())
    subject = _subject(workspace, account, claims)
    workspace.sign_ins.append((account.email, subject))
    given = workspace.issue(subject, str(claims["scope"]).split())
    return {"access_token": given, "expires_in": workspace.lifetime, "token_type": "Bearer"}


def exchange(workspace: Workspace, form: Mapping[str, str]) -> dict[str, Any]:
    """RFC 8693. The answer is a token of the outside identity itself, good for little but to act through a service account."""
    pool = workspace.pools.get(form.get("audience", ""))
    if form.get("grant_type") != EXCHANGE or form.get("requested_token_type") != ACCESS_TOKEN:
        raise OAuthError("invalid_request", "Invalid grant_type or requested_token_type.")
    if pool is None:
        raise OAuthError("invalid_target", 'The target service indicated by the "audience" parameters is invalid.')
    if form.get("subject_token_type") not in JWT_TYPES or form.get("scope") != CLOUD:
        raise OAuthError("invalid_request", "Invalid subject_token_type or scope.")
    try:
        claims = pool.verify(form.get("subject_token", ""))
    except BadToken as error:
        raise invalid_grant(f"Unable to verify the ID Token signature. {error.reason}") from error
    if claims["iss"] != pool.issuer:
        raise invalid_grant(f"The issuer in ID Token {claims['iss']} does not match the expected ones: {pool.issuer}")
    if claims["aud"] != pool.audience:
        raise invalid_grant(f"The audience in ID Token [{claims['aud']}] does not match the expected audience.")
    given = workspace.issue(pool.principal(claims["sub"]), [CLOUD], HOUR)
    return {"access_token": given, "issued_token_type": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": HOUR}


def sign_jwt(workspace: Workspace, email: str, bearer: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Raises ApiError. The account may be anybody's who was granted iam.serviceAccounts.signJwt on it."""
    grant, account = workspace.grant(bearer), workspace.accounts.get(email)
    if grant is None:
        raise unauthenticated()
    if account is None or grant.subject not in account.signers:
        message = "Permission 'iam.serviceAccounts.signJwt' denied on resource (or it may not exist)."
        raise ApiError(403, "forbidden", message)
    claims = _payload(body)
    if not isinstance(claims.get("exp"), int) or not 0 < claims["exp"] - workspace.now() <= SIGNED_AT_MOST:
        raise bad("The expiration time in the payload must be in the future and at most 12 hours away.")
    key_id, key = account.signing_key()
    head = _encoded(json.dumps({"alg": "RS256", "kid": key_id, "typ": "JWT"}).encode())
    signed = f"{head}.{_encoded(str(body['payload']).encode())}"
    signature = key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return {"keyId": key_id, "signedJwt": f"{signed}.{_encoded(signature)}"}


def _parsed(assertion: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    parts = assertion.split(".")
    try:
        header, claims = (json.loads(_decoded(part)) for part in parts[:2])
        signature = _decoded(parts[2])
    except (ValueError, IndexError) as error:
        raise invalid_grant("Invalid JWT: not well formed.") from error
    if len(parts) != 3 or not isinstance(header, dict) or not isinstance(claims, dict):
        raise invalid_grant("Invalid JWT: not well formed.")
    return header, claims, ".".join(parts[:2]).encode(), signature


def _check_signature(account: ServiceAccount, header: Mapping[str, Any], signed: bytes, signature: bytes) -> None:
    """`kid` is a hint that may be missing: then any key of the account will do."""
    if header.get("alg") != "RS256":
        raise invalid_grant("Invalid JWT: Only RS256 is supported.")
    keys = account.keys.values() if "kid" not in header else [account.keys[header["kid"]]] if header["kid"] in account.keys else []
    for key in keys:
        try:
            key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            continue
        return
    raise invalid_grant("Invalid JWT Signature.")


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    begins, ends = claims.get("iat"), claims.get("exp")
    whole = isinstance(begins, int) and isinstance(ends, int)
    if not whole or not begins <= now < ends or ends - begins > HOUR:  # type: ignore[operator]
        raise invalid_grant(_TIMES)


def _subject(workspace: Workspace, account: ServiceAccount, claims: Mapping[str, Any]) -> str:
    """Whom the token acts as: the mailbox, where the administrator delegated every scope; without `sub` the account itself."""
    asked = set(str(claims.get("scope", "")).split())
    if not asked:
        raise OAuthError("invalid_scope", "Empty or missing scope not allowed.")
    unknown = sorted(asked - KNOWN_SCOPES)
    if unknown:
        raise OAuthError("invalid_scope", f"Some requested scopes were invalid. {{invalid=[{', '.join(unknown)}]}}")
    if "sub" not in claims:
        return account.email
    subject = workspace.mailbox(str(claims["sub"]))
    if subject is None:
        raise invalid_grant("Invalid email or User ID")
    if not asked <= account.delegated:
        raise OAuthError("unauthorized_client", _UNAUTHORIZED, 401)
    return subject


def _payload(body: Mapping[str, Any]) -> dict[str, Any]:
    try:
        claims = json.loads(str(body.get("payload")))
    except ValueError as error:
        raise bad("The payload must be a JSON object of claims, as a string.") from error
    if not isinstance(claims, dict):
        raise bad("The payload must be a JSON object of claims, as a string.")
    return claims


def _decoded(part: str) -> bytes:
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
