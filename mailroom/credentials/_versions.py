"""Which version of a certificate signs in: the newest, or while the authority does not know that yet the one before, and an event says so.

A new version in the vault is looked for every ten minutes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from typing import NamedTuple

from mailroom.credentials._application import Assertion
from mailroom.credentials._assertion import Thumbprints, assertion
from mailroom.errors import AccountFault, VaultRefused
from mailroom.events import record
from mailroom.model.account import Profile
from mailroom.ports import Parts, Signing

KEEP_SECONDS = 600.0
MOST = 3  # versions that one question may try
UNFIT = frozenset({"certificate_expired", "certificate_not_yet_valid", "vault_certificate_disabled"})


class _Kept(NamedTuple):
    version: str
    until: float


class Versions(ABC):
    """What a version holds never changes, so that is kept; which one is in use is looked up again after KEEP_SECONDS."""

    def __init__(self, profile: Profile, parts: Parts, now: Callable[[], float]) -> None:
        self.profile = profile
        self.name = profile.certificate or ""
        self._parts = parts
        self._now = now
        self._newest = ""
        self._kept: _Kept | None = None

    @property
    def in_use(self) -> str:
        """The version that the authority took last, "" before."""
        return self._kept.version if self._kept else ""

    async def candidates(self) -> AsyncGenerator[str, None]:
        """The version in use, the newest, then older ones that are still good. Raises VaultRefused where none is, VaultDown."""
        tried: list[str] = []
        if self._kept is not None and self._kept.until > self._now():
            tried.append(self._kept.version)
            yield self._kept.version
        unfit = await self._look()
        if unfit is None and self._newest not in tried:
            tried.append(self._newest)
            yield self._newest
        for version in await self._older():
            if version not in tried and len(tried) < MOST:
                tried.append(version)
                yield version
        if unfit is not None and not tried:
            raise unfit

    def taken(self, version: str) -> None:
        if self._kept is not None and self._kept.version == version and self._kept.until > self._now():
            return
        self._kept = _Kept(version, self._now() + KEEP_SECONDS)
        if version != self._newest:
            facts = {"certificate": self.name, "version": version, "newest": self._newest or None}
            record("credential.previous_used", warn=True, profile=self.profile.name, **facts)

    async def proof(self, version: str) -> Assertion:
        """That this application has the key of that version: a new one for each question."""

        async def sign(algorithm: Signing, digest: bytes) -> bytes:
            return await self.sign(version, algorithm, digest)

        return Assertion(await assertion(self.profile, await self.thumbprints(version), sign, self._now()))

    @abstractmethod
    async def newest(self) -> str:
        """The version, once it is fit to sign with. Raises VaultRefused, VaultDown."""

    @abstractmethod
    async def thumbprints(self, version: str) -> Thumbprints: ...

    @abstractmethod
    async def sign(self, version: str, algorithm: Signing, digest: bytes) -> bytes:
        """The signature of a SHA-256 digest."""

    async def _look(self) -> VaultRefused | None:
        """Finds the newest version; what keeps it from signing now, where something does."""
        try:
            self._newest = await self.newest()
        except VaultRefused as error:
            if error.code not in UNFIT:
                raise
            self._newest = ""
            return error
        return None

    async def _older(self) -> list[str]:
        """None where they cannot be listed: then what the authority said of the newest is the better news."""
        now = datetime.fromtimestamp(self._now(), UTC)
        try:
            return [one.version for one in await self._parts.vault().certificate_versions(self.name) if one.usable(now)]
        except AccountFault as error:
            record("vault.unreadable", warn=True, code=error.code, detail=error.detail, next_step=error.next_step)
            return []
