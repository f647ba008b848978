"""Verifies a client assertion: a JWT signed with the key of a certificate that is registered on the application.

learn.microsoft.com/entra/identity-platform/certificate-credentials. An assertion may come again: msal uses one for nine minutes.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding

from sandbox.directory import App
from sandbox.entra.aadsts import Refusal

PADDINGS: dict[str, AsymmetricPadding] = {
    "PS256": padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH),
    "RS256": padding.PKCS1v15(),
}
JWT_TYPES = ("JWT", "http://openid.net/specs/jwt/1.0")
SKEW = 300
LAST_SECOND = datetime.max.replace(tzinfo=UTC).timestamp() - 1
THUMBPRINTS: dict[str, hashes.HashAlgorithm] = {"x5t#S256": hashes.SHA256(), "x5t": hashes.SHA1()}


def verify(assertion: str, app: App, audiences: Collection[str], now: float) -> None:
    """Raises Refusal."""
    jwt = parse(assertion)
    if jwt.header.get("typ") not in JWT_TYPES:
        raise Refusal(5002727)
    if str(jwt.header.get("alg")) not in PADDINGS:
        raise Refusal(700027, text="Invalid JWT token. Unsupported asymmetric signing algorithm.")
    if jwt.claims.get("iss") != app.client_id or jwt.claims.get("sub") != app.client_id:
        raise Refusal(700021)
    check_signature(jwt, app, now)
    if str(jwt.claims.get("aud")) not in audiences:
        raise Refusal(700023)
    _check_time(jwt.claims, now)


@dataclass(frozen=True, slots=True)
class Jwt:
    header: dict[str, Any]
    claims: dict[str, Any]
    signed: bytes
    signature: bytes


def parse(assertion: str) -> Jwt:
    """Raises Refusal. By hand, because joserfc takes no header over 512 bytes and a certificate chain (`x5c`) is longer."""
    signed, _, signature = assertion.rpartition(".")
    header, _, claims = signed.partition(".")
    return Jwt(_object(header), _object(claims), signed.encode(), _decode(signature))


def _object(part: str) -> dict[str, Any]:
    try:
        value = json.loads(_decode(part), parse_constant=_no_number)
    except ValueError as error:
        raise Refusal(50027) from error
    if not isinstance(value, dict):
        raise Refusal(50027)
    return value


def check_signature(jwt: Jwt, app: App, now: float) -> None:
    thumbprint, certificate = _find(app, jwt.header)
    used = f"Thumbprint of key used by client: '{thumbprint.hex().upper()}', " if thumbprint else ""
    if certificate is None:
        text = "The certificate with identifier used to sign the client assertion is not registered on application."
        raise _failed(app, text, f"The key was not found., {used}")
    used += f"Found key '{_validity(certificate)}', "
    if now > certificate.not_valid_after_utc.timestamp():
        raise _failed(app, "Client assertion contains an invalid signature.", f"The key used is expired., {used}")
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey), "the directory registers no other certificates"
    try:
        key.verify(jwt.signature, jwt.signed, PADDINGS[jwt.header["alg"]], hashes.SHA256())
    except InvalidSignature as error:
        reason = f"Key was found, but use of the key to verify the signature failed., {used}"
        raise _failed(app, "Client assertion failed signature validation.", reason) from error


def _find(app: App, header: dict[str, Any]) -> tuple[bytes, x509.Certificate | None]:
    """By thumbprint, padded or not: msal leaves the padding that base64url in a JOSE header should not have (RFC 7515, 4.1.7)."""
    for member, algorithm in THUMBPRINTS.items():
        if isinstance(header.get(member), str):
            thumbprint = _decode(header[member])
            found = (certificate for certificate in app.certificates if certificate.fingerprint(algorithm) == thumbprint)
            return thumbprint, next(found, None)
    return b"", None


def _decode(value: str) -> bytes:
    bare = value.rstrip("=")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise Refusal(50027) from error


def _check_time(claims: dict[str, Any], now: float) -> None:
    start, end = claims.get("nbf", -math.inf), claims.get("exp")
    if not isinstance(start, int | float) or not isinstance(end, int | float):
        raise Refusal(50027)
    if not start - SKEW <= now <= end + SKEW:
        raise Refusal(700024, now=_iso(now), start=_iso(start), end=_iso(end))


def _validity(certificate: x509.Certificate) -> str:
    form = "%m/%d/%Y %H:%M:%S"
    return f"Start={certificate.not_valid_before_utc.strftime(form)}, End={certificate.not_valid_after_utc.strftime(form)}"


def _iso(seconds: float) -> str:
    within_the_calendar = min(max(seconds, 0), LAST_SECOND)
    return datetime.fromtimestamp(within_the_calendar, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _failed(app: App, text: str, reason: str) -> Refusal:
    where = (
        f"Please visit the Azure Portal, Graph Explorer or directly use MS Graph to see configured keys for app Id '{app.client_id}'. "
        "Review the documentation at https://docs.microsoft.com/en-us/graph/deployments to determine the corresponding service endpoint "
        "and https://docs.microsoft.com/en-us/graph/api/application-get?view=graph-rest-1.0&tabs=http to build a query request URL, such "
        f"as 'https://graph.microsoft.com/beta/applications/{app.client_id}'."
    )
    return Refusal(700027, text=f"{text} [Reason - {reason}{where}]")
