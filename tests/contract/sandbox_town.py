"""The sandbox's Entra, Key Vault and identity endpoint, served for one test."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from sandbox import entra
from sandbox.ca import Ca
from sandbox.directory import Directory
from sandbox.faults import Faults
from sandbox.serve import serve
from sandbox.town import town


@dataclass(frozen=True)
class Office:
    """`authority` has the tenant in it."""

    directory: Directory
    ca: Ca
    http: httpx.AsyncClient
    faults: Faults

    @property
    def authority(self) -> str:
        return self.directory.login_url(self.directory.tenant)

    async def ask(self, tenant: str = "", /, headers: Mapping[str, str] | None = None, **form: str) -> httpx.Response:
        """One request to the token endpoint: client credentials for Graph, unless `form` says otherwise ("" leaves a field out)."""
        fields = {"grant_type": "client_credentials", "scope": "https://graph.microsoft.com/.default"} | form
        url = f"{self.directory.login_url(tenant or self.directory.tenant)}/oauth2/v2.0/token"
        return await self.http.post(url, data={name: value for name, value in fields.items() if value}, headers=headers)


@asynccontextmanager
async def office(folder: Path) -> AsyncIterator[Office]:
    directory, ca, faults = town(), Ca.create(folder), Faults()
    served = await serve(entra.create(directory, faults), ca)
    directory.authority = served.url
    try:
        async with httpx.AsyncClient(verify=ca.context()) as http:
            yield Office(directory, ca, http, faults)
    finally:
        await served.stop()


@dataclass(frozen=True)
class Certificate:
    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    @property
    def thumbprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA1()).hex()


def certificate(*, ended: bool = False, starts: timedelta = timedelta(days=-10)) -> Certificate:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now + starts)
        .not_valid_after(now + timedelta(days=-1 if ended else 10))
        .sign(key, hashes.SHA256())
    )
    return Certificate(key, made)


def assertion(key: Certificate, client_id: str, audience: str, *, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
    """A PS256 assertion made by hand, so that each part can be wrong by itself; a None leaves the member out."""
    now = time.time()
    thumbprint = encode(key.certificate.fingerprint(hashes.SHA256()))
    head = {"alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint} | dict(header or {})
    body = {"iss": client_id, "sub": client_id, "aud": audience, "jti": "1", "nbf": now, "exp": now + 600} | claims
    signed = ".".join(encode(json.dumps({k: v for k, v in part.items() if v is not None}).encode()) for part in (head, body))
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256().digest_size)
    return f"{signed}.{encode(key.key.sign(signed.encode(), pss, hashes.SHA256()))}"


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@contextmanager
def closing(client: Any) -> Iterator[Any]:
    """For clients that have a close() and no `with`."""
    try:
        yield client
    finally:
        client.close()
