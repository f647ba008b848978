"""Makes certificates by their policy, and reads and writes them with their keys as PFX or PEM.

learn.microsoft.com/azure/key-vault/certificates/about-certificates: an exported PFX has an empty password.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key, pkcs12

from sandbox.vault.errors import bad_parameter

PFX = "application/x-pkcs12"
PEM = "application/x-pem-file"
SERVER_AND_CLIENT = ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]
MONTH = timedelta(days=30.4)


def self_signed(policy: Mapping[str, Any]) -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    issuer = _part(policy, "issuer").get("name") or "Self"
    if issuer != "Self":
        raise bad_parameter(f"Property policy has invalid value: the issuer '{issuer}' is not set up in this vault; 'Self' is.")
    asked = _part(policy, "x509_props")
    key = rsa.generate_private_key(65537, _part(policy, "key_props").get("key_size") or 2048)
    name = _subject(asked.get("subject", ""))
    now = datetime.now(UTC).replace(microsecond=0)
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=10))
        .not_valid_after(now + (asked.get("validity_months") or 12) * MONTH)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=False)
        .add_extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier(oid) for oid in asked.get("ekus") or SERVER_AND_CLIENT]), False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    names = _part(asked, "sans").get("dns_names") or []
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(dns) for dns in names]), critical=False)
    return key, builder.sign(key, hashes.SHA256())


def complete(
    policy: Mapping[str, Any] | None, certificate: x509.Certificate, key: rsa.RSAPrivateKey, issuer: str, content_type: str = PFX
) -> dict[str, Any]:
    """The policy as the vault keeps it: what was asked for, and a default for the rest."""
    asked = policy or {}
    action = "AutoRenew" if issuer == "Self" else "EmailContacts"
    return {
        "key_props": {"exportable": True, "kty": "RSA", "key_size": key.key_size, "reuse_key": False} | _part(asked, "key_props"),
        "secret_props": {"contentType": content_type} | _part(asked, "secret_props"),
        "x509_props": {"subject": certificate.subject.rfc4514_string(), "validity_months": 12} | _part(asked, "x509_props"),
        "lifetime_actions": asked.get("lifetime_actions") or [{"trigger": {"lifetime_percentage": 80}, "action": {"action_type": action}}],
        "issuer": {"name": issuer} | _part(asked, "issuer"),
    }


def _part(policy: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What the policy says there; clients send null for what they leave open."""
    return {member: value for member, value in (policy.get(name) or {}).items() if value is not None}


def encode(key: rsa.RSAPrivateKey | None, certificate: x509.Certificate, content_type: str) -> str:
    """The value of the certificate's secret; without the key where the policy says that it cannot be exported."""
    if content_type == PEM:
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) if key else b""
        return (private + certificate.public_bytes(Encoding.PEM)).decode()
    if content_type == PFX:
        return base64.b64encode(pkcs12.serialize_key_and_certificates(None, key, certificate, None, NoEncryption())).decode()
    raise bad_parameter(f"Property secret_props.contentType has invalid value '{content_type}'; it is {PFX} or {PEM}.")


def decode(value: str, password: str | None) -> tuple[rsa.RSAPrivateKey, x509.Certificate, str]:
    """What an import brings: key, certificate and content type."""
    secret = password.encode() if password else None
    try:
        if value.lstrip().startswith("-----BEGIN"):
            key: object = load_pem_private_key(value.encode(), secret)
            certificate: x509.Certificate | None = x509.load_pem_x509_certificates(value.encode())[0]
            content_type = PEM
        else:
            key, certificate, _ = pkcs12.load_key_and_certificates(base64.b64decode(value, validate=True), secret)
            content_type = PFX
    except ValueError as error:
        raise bad_parameter(
            "The specified X.509 certificate content can not be read. Please check if certificate is in valid format."
        ) from error
    if certificate is None or not isinstance(key, rsa.RSAPrivateKey) or key.public_key() != certificate.public_key():
        raise bad_parameter("The specified X.509 certificate must hold an RSA private key and the certificate that belongs to it.")
    return key, certificate, content_type


def _subject(text: str) -> x509.Name:
    try:
        return x509.Name.from_rfc4514_string(text)
    except ValueError as error:
        raise bad_parameter(f"Property x509_props.subject has invalid value '{text}'.") from error
