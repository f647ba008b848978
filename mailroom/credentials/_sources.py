"""What an application proves itself with, the likeliest first: a secret, an assertion by a certificate, or a managed identity's token.

Whoever asks goes on to the next one when the authority does not know the one before: a newer secret in the vault than we remembered, or an
older certificate while the newest is not registered yet.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from typing import NamedTuple, Protocol

from mailroom.credentials._application import Assertion, Proof
from mailroom.credentials._keys import KeyInVault, KeyRead
from mailroom.credentials._versions import Versions
from mailroom.model.account import Profile
from mailroom.ports import Identity, Parts, Vault


class Candidate(NamedTuple):
    """`version` is the certificate's, "" for what has none."""

    proof: Proof
    version: str = ""


class Source(Protocol):
    def candidates(self) -> AsyncGenerator[Candidate, None]:
        """At least one, or the vault's or the identity's error."""
        ...

    def taken(self, candidate: Candidate) -> None:
        """The authority took this one."""
        ...


def source_of(profile: Profile, parts: Parts, now: Callable[[], float] = time.time) -> Source:
    if dict(profile.options).get("federated"):
        return FromIdentity(parts.identity, profile.cloud.exchange_audience)
    if profile.certificate is None:
        return FromSecret(parts.vault, profile.secret or "")
    return FromCertificate(versions_of(profile, parts, now))


def versions_of(profile: Profile, parts: Parts, now: Callable[[], float] = time.time) -> Versions:
    kind = KeyInVault if dict(profile.options).get("key") == "vault" else KeyRead
    return kind(profile, parts, now)


class FromSecret:
    def __init__(self, vault: Callable[[], Vault], name: str) -> None:
        self._vault = vault
        self._name = name

    async def candidates(self) -> AsyncGenerator[Candidate, None]:
        remembered = await self._vault().secret(self._name)
        yield Candidate(remembered)
        newest = await self._vault().secret(self._name, fresh=True)
        if newest != remembered:
            yield Candidate(newest)

    def taken(self, candidate: Candidate) -> None:
        """The vault remembers what it read last."""


class FromIdentity:
    """A token of the managed identity for the exchange, in place of a secret: the application trusts it by a federated credential.

    learn.microsoft.com/entra/workload-id/workload-identity-federation-config-app-trust-managed-identity
    """

    def __init__(self, identity: Callable[[], Identity], audience: str) -> None:
        self._identity = identity
        self._audience = audience

    async def candidates(self) -> AsyncGenerator[Candidate, None]:
        remembered = await self._identity().token(self._audience)
        yield Candidate(Assertion(remembered.value))
        newest = await self._identity().token(self._audience, fresh=True)
        if newest.value != remembered.value:
            yield Candidate(Assertion(newest.value))

    def taken(self, candidate: Candidate) -> None:
        """The identity remembers what the platform gave it."""


class FromCertificate:
    def __init__(self, versions: Versions) -> None:
        self._versions = versions

    async def candidates(self) -> AsyncGenerator[Candidate, None]:
        async for version in self._versions.candidates():
            yield Candidate(await self._versions.proof(version), version)

    def taken(self, candidate: Candidate) -> None:
        self._versions.taken(candidate.version)


class ByVersion:
    """One version of the certificate and no other, to find out whether the authority knows it."""

    def __init__(self, versions: Versions, version: str) -> None:
        self._versions = versions
        self._version = version

    async def candidates(self) -> AsyncGenerator[Candidate, None]:
        yield Candidate(await self._versions.proof(self._version), self._version)

    def taken(self, candidate: Candidate) -> None:
        """Nothing is remembered of a trial."""
