"""The two kinds of keys that a certificate of the vault can have: one that is read and signs here, one that stays and signs there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mailroom.credentials._versions import MOST, Versions
from mailroom.errors import VaultRefused
from mailroom.model.account import Profile
from mailroom.model.certificate import Certificate, PublicCertificate
from mailroom.ports import Parts, Signing


class KeyRead(Versions):
    """The private key is read from the vault, and signs here."""

    def __init__(self, profile: Profile, parts: Parts, now: Callable[[], float]) -> None:
        super().__init__(profile, parts, now)
        self._read: dict[str, Certificate] = {}

    async def newest(self) -> str:
        return self._remembered(await self._parts.certificates().certificate(self.name)).version

    async def thumbprints(self, version: str) -> Certificate:
        return self._read.get(version) or self._remembered(await self._parts.certificates().certificate(self.name, version))

    async def sign(self, version: str, algorithm: Signing, digest: bytes) -> bytes:
        return await asyncio.to_thread(_signature, self.name, (await self.thumbprints(version)).key_pem, algorithm, digest)

    def _remembered(self, certificate: Certificate) -> Certificate:
        self._read = dict([*self._read.items(), (certificate.version, certificate)][-MOST:])
        return certificate


class KeyInVault(Versions):
    """The key never leaves the vault: it signs there, and only certificates and signatures come here."""

    def __init__(self, profile: Profile, parts: Parts, now: Callable[[], float]) -> None:
        super().__init__(profile, parts, now)
        self._read: dict[str, PublicCertificate] = {}

    async def newest(self) -> str:
        return self._remembered(await self._parts.vault().public_certificate(self.name)).version

    async def thumbprints(self, version: str) -> PublicCertificate:
        return self._read.get(version) or self._remembered(await self._parts.vault().public_certificate(self.name, version))

    async def sign(self, version: str, algorithm: Signing, digest: bytes) -> bytes:
        return await self._parts.vault().sign(self.name, version, algorithm, digest)

    def _remembered(self, certificate: PublicCertificate) -> PublicCertificate:
        self._read = dict([*self._read.items(), (certificate.version, certificate)][-MOST:])
        return certificate


def _signature(name: str, key_pem: bytes, algorithm: Signing, digest: bytes) -> bytes:
    """Whether the key is a sound one was looked at when it was read from the vault."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(key_pem, None, unsafe_skip_rsa_key_validation=True)
    except ValueError:  # its text may quote the key
        key = None
    if not isinstance(key, rsa.RSAPrivateKey):
        detail = f"The certificate {name!r} cannot be used to sign."
        raise VaultRefused("certificate_unusable", detail, "It needs an RSA key; make a new version of it in the vault.")
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    return key.sign(digest, pss if algorithm == "PS256" else padding.PKCS1v15(), Prehashed(hashes.SHA256()))
