"""Key Vault certificates with their private keys, as grants need them to sign in.

A certificate's key is read as the secret of the same name, by Microsoft's own azure-keyvault-secrets and azure-identity: this happens
once in a while, off the hot path. learn.microsoft.com/azure/key-vault/certificates/how-to-export-certificate
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from mailroom.errors import AccountFault, IdentityDown, VaultDown, VaultRefused
from mailroom.http import retry_after
from mailroom.model.certificate import Certificate
from mailroom.storage import fitness
from mailroom.storage.vault_answers import refusal

if TYPE_CHECKING:
    from azure.core.exceptions import AzureError
    from azure.keyvault.secrets import KeyVaultSecret
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

ROLE = "Key Vault Certificate User"
PEM_TYPE = "application/x-pem-file"
PFX_TYPE = "application/x-pkcs12"
# Seconds and times of the SDK's own: an answer of 429 is not slept through here, the lane pauses instead.
PATIENCE = {"connection_timeout": 5, "read_timeout": 10, "retry_total": 2, "retry_status": 0, "retry_backoff_max": 4}


class VaultCertificates:
    """`env` tells whether the platform gives an identity (IDENTITY_ENDPOINT); `client_id` chooses a user-assigned one."""

    def __init__(
        self,
        url: str,
        env: Mapping[str, str],
        *,
        client_id: str | None = None,
        now: Callable[[], float] = time.time,
        credential: Callable[[], Any] | None = None,
    ) -> None:
        self._url = url
        self._managed = bool(env.get("IDENTITY_ENDPOINT"))
        self._client_id = client_id
        self._now = now
        self._new_credential = credential or self._platform_credential

    async def certificate(self, name: str, version: str = "") -> Certificate:
        secret = await asyncio.to_thread(self._read, name, version)
        return await asyncio.to_thread(opened, name, secret, datetime.fromtimestamp(self._now(), UTC))

    def _read(self, name: str, version: str) -> KeyVaultSecret:
        from azure.core.exceptions import AzureError
        from azure.keyvault.secrets import SecretClient

        try:
            with self._new_credential() as credential, SecretClient(self._url, credential, **PATIENCE) as client:
                return client.get_secret(name, version or None)
        except AzureError as error:
            raise _meaning(name, error) from error
        except ValueError as error:  # the challenge named another resource than this vault's
            raise VaultRefused("vault_refused", f"{self._url} does not answer as a key vault does.", "Check MAILROOM_VAULT_URL.") from error

    def _platform_credential(self) -> Any:
        from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

        return ManagedIdentityCredential(client_id=self._client_id) if self._managed else DefaultAzureCredential()


def opened(name: str, secret: KeyVaultSecret, now: datetime) -> Certificate:
    """The secret's content as key and certificate, once both are fit to sign with."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key, certificate = _parsed(name, secret)
    _check(name, key, certificate, now)
    return Certificate(
        key_pem=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        certificate_pem=certificate.public_bytes(Encoding.PEM),
        thumbprint_sha1=certificate.fingerprint(hashes.SHA1()).hex(),  # noqa: S303  # RFC 7515 names it x5t; it identifies, it proves nothing
        thumbprint_sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        version=secret.properties.version or "",
    )


def _parsed(name: str, secret: KeyVaultSecret) -> tuple[PrivateKeyTypes, x509.Certificate]:
    read = {PFX_TYPE: _from_pfx, PEM_TYPE: _from_pem}.get(secret.properties.content_type or "")
    if read is None:
        detail = f"{name!r} is a secret of type {secret.properties.content_type!r}, no certificate."
        raise VaultRefused("certificate_unreadable", detail, "Name a certificate of the vault, or import this one as such.")
    try:
        key, certificate = read(secret.value or "")
    except ValueError as error:
        detail = f"What the vault holds for the certificate {name!r} cannot be read."
        raise VaultRefused("certificate_unreadable", detail, "Import it again, as PFX or PEM without a password.") from error
    if key is None or certificate is None:
        detail = f"The vault gives no private key with the certificate {name!r}."
        raise VaultRefused(
            "certificate_key_missing", detail, "Its policy must say that the key is exportable, and RSA; then make a new version."
        )
    return key, certificate


def _from_pfx(text: str) -> tuple[PrivateKeyTypes | None, x509.Certificate | None]:
    from cryptography.hazmat.primitives.serialization import pkcs12

    key, certificate, _ = pkcs12.load_key_and_certificates(base64.b64decode(text, validate=True), None)
    return key, certificate


def _from_pem(text: str) -> tuple[PrivateKeyTypes | None, x509.Certificate | None]:
    """Key and chain in one text; ours is the certificate that has this key."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if "PRIVATE KEY-----" not in text:
        return None, None
    key = load_pem_private_key(text.encode(), None)
    ours = (found for found in x509.load_pem_x509_certificates(text.encode()) if found.public_key() == key.public_key())
    return key, next(ours, None)


def _check(name: str, key: PrivateKeyTypes, certificate: x509.Certificate, now: datetime) -> None:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    fitness.check_key(name, isinstance(key, RSAPrivateKey) and key.key_size >= fitness.LEAST_BITS)
    fitness.check_times(name, certificate.not_valid_before_utc, certificate.not_valid_after_utc, now)


def _meaning(name: str, error: AzureError) -> AccountFault:
    from azure.core.exceptions import ClientAuthenticationError, HttpResponseError

    if isinstance(error, ClientAuthenticationError) and error.response is None:  # azure-identity's, before the vault was asked
        return IdentityDown(
            "identity_missing", "azure-identity found no identity to read the vault with.", "Assign one to the app, or `az login`."
        )
    if isinstance(error, HttpResponseError) and error.response is not None and error.status_code:
        inner = (getattr(error.error, "innererror", None) or {}).get("code", "")
        wait = retry_after(cast(Any, error.response).headers)
        return refusal("certificate", name, error.status_code, inner, role=ROLE, wait=wait)
    return VaultDown("vault_down", f"The vault did not answer ({type(error).__name__}).")
