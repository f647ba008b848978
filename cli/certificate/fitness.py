"""Whether a certificate of a file can serve: what the vault or Entra ID would refuse later is refused here, before anything is done."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from mailroom.errors import BadInput

SIZES = (2048, 3072, 4096)  # bits, of RSA keys in Key Vault: learn.microsoft.com/azure/key-vault/keys/about-keys


def public_key(certificate: x509.Certificate) -> CertificatePublicKeyTypes | None:
    """None for a kind of key that cryptography does not know."""
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None


def check_key(where: str, key: CertificatePublicKeyTypes | None) -> None:
    if isinstance(key, RSAPublicKey) and key.key_size in SIZES:
        return
    detail = f"The key in {where} is {described(key)}; it must be RSA of {', '.join(map(str, SIZES[:-1]))} or {SIZES[-1]} bits."
    raise BadInput("certificate_key_unfit", detail, "Make a new one: `mailroom certificate make NAME`.")


def check_times(where: str, certificate: x509.Certificate, now: datetime) -> None:
    ended = certificate.not_valid_after_utc
    if ended <= now:
        detail = f"The certificate in {where} expired on {ended:%Y-%m-%d %H:%M} UTC."
        raise BadInput("certificate_expired", detail, "Make a new one: `mailroom certificate make NAME`.")
    if certificate.not_valid_before_utc > now:
        detail = f"The certificate in {where} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC."
        raise BadInput("certificate_not_yet_valid", detail, "Wait until then, or check this machine's clock.")


def described(key: CertificatePublicKeyTypes | None) -> str:
    """RSA 2048, EC 256, Ed25519, ..."""
    if key is None:
        return "of a kind that is unknown here"
    kind = type(key).__name__.removesuffix("PublicKey").lstrip("_")
    kind = {"EllipticCurve": "EC", "EC": "EC"}.get(kind, kind)
    size = getattr(key, "key_size", None)
    return f"{kind} {size}" if size else kind
