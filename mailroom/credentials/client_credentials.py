"""The client credentials grant (RFC 6749, 4.4) through msal: the application signs in as itself, in one of four ways.

A secret; a certificate whose key is read from the vault; one whose key never leaves it (`key = "vault"`); or, with no secret anywhere, the
token of a managed identity that the application trusts (`federated`). A certificate signs a client assertion (private_key_jwt, OpenID
Connect Core, 9): PS256 with x5t#S256 as learn.microsoft.com/entra/identity-platform/certificate-credentials asks for, RS256 with x5t where
an authority wants that.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import Any

from mailroom import http
from mailroom.credentials import _aadsts
from mailroom.credentials._application import Application, Proof
from mailroom.credentials._authority import Wire
from mailroom.credentials._registration import Registration
from mailroom.credentials._sources import Source, source_of, versions_of
from mailroom.errors import AuthorityDown, AuthorityRefused
from mailroom.model.account import Profile
from mailroom.model.token import Token
from mailroom.ports import Parts, Registrar

KEYS = {
    "tenant": True,
    "client_id": True,
    "secret": False,
    "certificate": False,
    "algorithm": False,
    "key": False,
    "federated": False,
    "register_as": False,
}
SEVERAL_TENANTS = frozenset({"common", "organizations", "consumers"})
TIMEOUT = 10.0
IDENTITY = "managed_identity"


def mistakes(profile: Profile) -> Iterator[tuple[str, str, str]]:
    """What is wrong with a profile's keys together: key, what was found, what would be right."""
    options = dict(profile.options)
    ways = {"secret": profile.secret, "certificate": profile.certificate, "federated": options.get("federated")}
    used = [name for name, value in ways.items() if value is not None]
    if not used:
        yield "certificate", "missing", f'name a certificate of the vault here, or a secret in `secret`, or say federated = "{IDENTITY}"'
    if used == ["secret", "certificate"]:
        yield "certificate", "found beside a secret", "name either a secret or a certificate"
    elif len(used) > 1:
        yield "federated", f"found beside a {used[0]}", "leave one of them out: each is a way to sign in by itself"
    if ways["federated"] not in (None, IDENTITY):
        yield "federated", "found something else", f'should be "{IDENTITY}": the one that this app runs as'
    if options.get("key", "vault") != "vault":
        yield "key", "found something else", 'should be "vault", where the key stays and signs, or left out: then it is read'
    if profile.certificate is None:
        yield from _without_certificate(profile, used[0] if used else "")


def _without_certificate(profile: Profile, way: str) -> Iterator[tuple[str, str, str]]:
    found = f"found beside a {way}" if way == "secret" else "found without a certificate"
    only = {"algorithm": profile.algorithm != "PS256"} | {key: key in dict(profile.options) for key in ("key", "register_as")}
    for key in (key for key, there in only.items() if there):
        yield key, found, "leave it out: only a certificate signs" if key != "register_as" else "leave it out: only certificates register"


def build(profile: Profile, parts: Parts) -> ClientCredentials:
    return ClientCredentials(profile, source_of(profile, parts))


def registrar(profile: Profile, parts: Parts) -> Registrar:
    """Of a profile that says `register_as`."""
    return Registration(profile, versions_of(profile, parts), parts, lambda source: ClientCredentials(profile, source))


class ClientCredentials:
    """`timeout` is for each of the two calls that the first `ask` makes, the metadata's and the token's."""

    def __init__(
        self,
        profile: Profile,
        source: Source,
        *,
        timeout: float = TIMEOUT,
        now: Callable[[], float] = time.time,
        tls: Callable[[], ssl.SSLContext] = http.tls,
    ) -> None:
        self._profile = profile
        self._source = source
        self._timeout = timeout
        self._now = now
        self._tls = tls
        self._lock = asyncio.Lock()
        self._application: Application | None = None

    async def ask(self, scope: str) -> Token:
        """With the first of the source's candidates that the authority knows."""
        refused: AuthorityRefused | None = None
        async with self._lock, aclosing(self._source.candidates()) as candidates:
            async for candidate in candidates:
                try:
                    token = await self._asked(scope, candidate.proof)
                except AuthorityRefused as error:
                    if not _aadsts.another_may_do(error):
                        raise
                    refused = error
                else:
                    self._source.taken(candidate)
                    return token
        raise refused or LookupError("a source has at least one candidate")

    async def _asked(self, scope: str, proof: Proof) -> Token:
        asked_at = self._now()
        try:
            async with asyncio.timeout(2 * self._timeout + 5):  # a server that drips outlasts the timeouts of single reads
                answer = await self._answer(scope, proof)
        except TimeoutError as error:
            raise AuthorityDown("authority_timeout", "The authority did not answer in time.") from error
        value, lifetime = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(value, str) or not isinstance(lifetime, int | float):
            raise AuthorityDown("authority_unreadable", "The authority's answer is no token.", "Check the profile's `cloud`.")
        return Token(value, asked_at + lifetime, float(lifetime))

    async def _answer(self, scope: str, proof: Proof) -> dict[str, Any]:
        application = self._application
        if application is None or not application.takes(proof):
            wire = Wire(self._timeout, tls=self._tls, now=self._now)
            application = self._application = Application(self._profile, proof, wire)
        try:
            return await asyncio.to_thread(application.ask, scope, proof)
        except asyncio.CancelledError:  # out of time, or given up; the thread goes on, and would close the connections of the next one
            self._application = None
            raise
