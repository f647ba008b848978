"""An SMTP relay as a provider: no sign-in; the server knows us by our address or by our certificate, as an Exchange connector does.

learn.microsoft.com/exchange/mail-flow-best-practices, "Configure a connector to send mail using Microsoft 365 SMTP relay".
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mailroom.errors import AccountFault, NotSent
from mailroom.model.account import Account, Size, Traits
from mailroom.model.certificate import Certificate
from mailroom.ports import Certificates, Parts
from mailroom.providers import _smtp_servers as servers
from mailroom.providers._smtp_connection import Failed
from mailroom.providers._smtp_sender import SmtpSender
from mailroom.providers._smtp_servers import Server

TRAITS = Traits(receives=False, signs_in=False, rate=600.0, in_flight=10, slice_weight=1, uploads=True)
NEEDS = (Size("by a connector that knows our address or certificate", servers.Preset().largest),)
KEYS = {"host": True, "from": False, "client_certificate": False}
CERTIFICATE_SECONDS = 600.0  # a new version in the vault is seen after that, at the latest
PORT = 25


def mistakes(account: Account) -> Iterator[tuple[str, str, str]]:
    """What is wrong with an account's own options: key, what was found, what would be right."""
    yield from servers.mistakes(account)


class Relay(SmtpSender):
    """In TLS like every other; with a `client_certificate` of the vault where the account names one."""

    signs_in = False

    def server(self, account: Account) -> Server:
        return servers.server(account, port=PORT)


class ClientTls:
    """TLS contexts by the name of the certificate that they show; "" shows none."""

    def __init__(self, certificates: Callable[[], Certificates], *, now: Callable[[], float] = time.monotonic) -> None:
        self._certificates = certificates
        self._now = now
        self._made: dict[str, tuple[ssl.SSLContext, float]] = {}

    async def __call__(self, account: Account) -> ssl.SSLContext:
        from mailroom import http

        name = dict(account.options).get("client_certificate")
        if name is None:
            return http.tls()
        made = self._made.get(name)
        if made is None or made[1] <= self._now():
            made = await self._with(name), self._now() + CERTIFICATE_SECONDS
            self._made[name] = made
        return made[0]

    async def _with(self, name: str) -> ssl.SSLContext:
        try:
            certificate = await self._certificates().certificate(name)
        except AccountFault as fault:
            raise Failed(NotSent(fault.code, fault.detail, fault.next_step, retry_after=fault.retry_after), stops=True) from fault
        return await asyncio.to_thread(showing, certificate)


def showing(certificate: Certificate) -> ssl.SSLContext:
    """A context of its own. OpenSSL reads a client's key from a file only: it lies there sealed with a password that nobody else knows."""
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, load_pem_private_key

    password = secrets.token_bytes(32).hex()
    key = load_pem_private_key(certificate.key_pem, None)
    sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password.encode()))
    context = ssl.create_default_context()
    with tempfile.TemporaryDirectory() as folder:  # only its owner can look into it
        file = Path(folder) / "client.pem"
        file.write_bytes(sealed + certificate.certificate_pem)
        context.load_cert_chain(file, password=password)
    return context


def build(parts: Parts) -> Relay:
    return Relay(parts.call_seconds, ClientTls(parts.certificates), parts.store)


def scope(account: Account) -> str:
    """No tokens are asked for."""
    return ""
