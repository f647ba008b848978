"""Verifies a client assertion: a JWT signed with the key of a certificate that is registered on the application.

learn.microsoft.com/entra/identity-platform/certificate-credentials. An assertion may come again: msal uses one for nine minutes.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jws
from joserfc.errors import BadSignatureError, JoseError
from joserfc.jwk import RSAKey
from joserfc.jws import CompactSignature

from sandbox.directory import App
from sandbox.entra.aadsts import Refusal

ALGORITHMS = ["PS256", "RS256"]
JWT_TYPES = ("JWT", "http://openid.net/specs/jwt/1.0")
SKEW = 300
LAST_SECOND = datetime.max.replace(tzinfo=UTC).timestamp() - 1
THUMBPRINTS: dict[str, hashes.HashAlgorithm] = {"x5t#S256": hashes.SHA256(), "x5t": hashes.SHA1()}


def verify(assertion: str, app: App, audiences: Collection[str], now: float) -> None:
    """Raises Refusal."""
    signed = _parse(assertion)
    header = signed.headers()
    claims = _claims(signed)
    if header.get("typ") not in JWT_TYPES:
        raise Refusal(5002727)
    if header.get("alg") not in ALGORITHMS:
        raise Refusal(700027, text="Invalid JWT token.", reason="Unsupported asymmetric signing algorithm.")
    if claims.get("iss") != app.client_id or claims.get("sub") != app.client_id:
        raise Refusal(700021)
    _check_signature(assertion, app, header, now)
    if claims.get("aud") not in audiences:
        raise Refusal(700023)
    _check_time(claims, now)


def _parse(assertion: str) -> CompactSignature:
    try:
        return jws.extract_compact(assertion.encode())
    except (JoseError, ValueError) as error:
        raise Refusal(50027) from error


def _claims(signed: CompactSignature) -> dict[str, Any]:
    try:
        claims = json.loads(signed.payload, parse_constant=_no_number)
    except ValueError as error:
        raise Refusal(50027) from error
    if not isinstance(claims, dict):
        raise Refusal(50027)
    return claims


def _check_signature(assertion: str, app: App, header: dict[str, Any], now: float) -> None:
    where = _where_to_look(app.client_id)
    thumbprint, certificate = _find(app, header)
    used = f"Thumbprint of key used by client: '{thumbprint.hex().upper()}', " if thumbprint else ""
    if certificate is None:
        text = "The certificate with identifier used to sign the client assertion is not registered on application."
        raise Refusal(700027, text=text, reason=f"The key was not found., {used}{where}")
    used += f"Found key '{_validity(certificate)}', "
    if now > certificate.not_valid_after_utc.timestamp():
        raise Refusal(700027, text="Client assertion contains an invalid signature.", reason=f"The key used is expired., {used}{where}")
    key = RSAKey.import_key(certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    try:
        jws.deserialize_compact(assertion, key, algorithms=ALGORITHMS)
    except BadSignatureError as error:
        reason = f"Key was found, but use of the key to verify the signature failed., {used}{where}"
        raise Refusal(700027, text="Client assertion failed signature validation.", reason=reason) from error


def _find(app: App, header: dict[str, Any]) -> tuple[bytes, x509.Certificate | None]:
    """By thumbprint, padded or not: msal leaves the padding that base64url in a JOSE header should not have (RFC 7515, 4.1.7)."""
    for member, algorithm in THUMBPRINTS.items():
        if isinstance(header.get(member), str):
            thumbprint = _decode(header[member])
            found = (certificate for certificate in app.certificates if certificate.fingerprint(algorithm) == thumbprint)
            return thumbprint, next(found, None)
    return b"", None


def _decode(value: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(value.rstrip("=") + "=" * (-len(value.rstrip("=")) % 4))
    except binascii.Error as error:
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


def _where_to_look(client_id: str) -> str:
    return (
        f"Please visit the Azure Portal, Graph Explorer or directly use MS Graph to see configured keys for app Id '{client_id}'. Review "
        "the documentation at https://docs.microsoft.com/en-us/graph/deployments to determine the corresponding service endpoint and "
        "https://docs.microsoft.com/en-us/graph/api/application-get?view=graph-rest-1.0&tabs=http to build a query request URL, such as "
        f"'https://graph.microsoft.com/beta/applications/{client_id}'."
    )
