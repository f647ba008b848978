"""What the grants of users have in common: one question to msal at a time, with the application's own proof where it has one.

A public client (RFC 6749, 2.1) has none: its profile names no secret, certificate or identity. Users' tokens are asked for once an hour, so
each question has an application of its own: no thread shares one, and no token stays behind.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Any

import msgspec

from mailroom import http
from mailroom.credentials import _aadsts, client_credentials
from mailroom.credentials._application import Assertion, Proof, credential
from mailroom.credentials._authority import Wire
from mailroom.credentials._sources import source_of
from mailroom.errors import AuthorityDown, AuthorityRefused
from mailroom.model.account import Profile
from mailroom.model.token import Token
from mailroom.ports import Parts, Vault

KEYS = {"tenant": True, "client_id": True, "secret": False, "certificate": False, "algorithm": False, "key": False, "federated": False}
TIMEOUT = 10.0
CALLS = 3  # of a question at the most: the metadata's, the user realm's and the token's

Question = Callable[[Any], dict[str, Any]]


class Answer(msgspec.Struct, frozen=True):
    """RFC 6749, 5.1, as msal hands it on."""

    access_token: str
    expires_in: float
    refresh_token: str = ""
    id_token_claims: dict[str, Any] = {}

    def __repr__(self) -> str:
        return "Answer(…)"

    def token(self, asked_at: float) -> Token:
        return Token(self.access_token, asked_at + self.expires_in, self.expires_in)


def is_public(profile: Profile) -> bool:
    return profile.secret is None and profile.certificate is None and "federated" not in dict(profile.options)


def mistakes(profile: Profile) -> Iterator[tuple[str, str, str]]:
    if not is_public(profile):
        yield from client_credentials.mistakes(profile)
    elif profile.algorithm != "PS256":
        yield "algorithm", "found without a certificate", "leave it out: only a certificate signs"
    elif "key" in dict(profile.options):
        yield "key", "found without a certificate", "leave it out: only a certificate has one"


class Client:
    """`timeout` is for each call. Raises AuthorityRefused, AuthorityDown, VaultRefused, VaultDown, IdentityDown."""

    def __init__(
        self,
        profile: Profile,
        parts: Parts,
        *,
        timeout: float = TIMEOUT,
        now: Callable[[], float] = time.time,
        tls: Callable[[], ssl.SSLContext] = http.tls,
    ) -> None:
        self.profile = profile
        self.now = now
        self._parts = parts
        self._source = None if is_public(profile) else source_of(profile, parts, now)
        self._timeout = timeout
        self._tls = tls

    @property
    def vault(self) -> Vault:
        return self._parts.vault()

    async def ask(self, question: Question, wire: Wire | None = None) -> Answer:
        """The tokens that the authority gives for it."""
        try:
            return msgspec.convert(await self.call(question, wire), Answer)
        except msgspec.ValidationError as error:
            raise unreadable("no token") from error

    async def call(self, question: Question, wire: Wire | None = None) -> dict[str, Any]:
        """Its answer, asked for with the first of the source's candidates that the authority knows."""
        wire = wire or self.wire()
        if self._source is None:
            return await self._called(question, None, wire)
        refused: AuthorityRefused | None = None
        async with aclosing(self._source.candidates()) as candidates:
            async for candidate in candidates:
                try:
                    answer = await self._called(question, candidate.proof, wire)
                except AuthorityRefused as error:
                    if not _aadsts.another_may_do(error):
                        raise
                    refused = error
                else:
                    self._source.taken(candidate)
                    return answer
        raise refused or LookupError("a source has at least one candidate")

    def wire(self) -> Wire:
        return Wire(**self.wiring())

    def wiring(self) -> dict[str, Any]:
        """What a Wire is made with."""
        return {"timeout": self._timeout, "tls": self._tls, "now": self.now}

    async def _called(self, question: Question, proof: Proof | None, wire: Wire) -> dict[str, Any]:
        try:
            async with asyncio.timeout(CALLS * self._timeout + 5):  # a server that drips outlasts the timeouts of single reads
                return await asyncio.to_thread(_asked, self.profile, proof, wire, question)
        except TimeoutError as error:
            raise AuthorityDown("authority_timeout", "The authority did not answer in time.") from error


class NoCache:
    """What msal takes for its `token_cache`: it would keep the tokens, and tell its log of spent codes and their verifiers."""

    def add(self, event: Mapping[str, Any]) -> None: ...

    def remove_rt(self, item: Mapping[str, Any]) -> None: ...

    def update_rt(self, item: Mapping[str, Any], new: str) -> None: ...


def unreadable(what: str) -> AuthorityDown:
    return AuthorityDown("authority_unreadable", f"The authority's answer is {what}.", "Check the profile's `cloud`.")


def _asked(profile: Profile, proof: Proof | None, wire: Wire, question: Question) -> dict[str, Any]:
    with wire:
        application = _application(profile, proof, wire)
        try:
            return question(application)
        except (ValueError, LookupError, AttributeError, TypeError, RuntimeError) as error:  # what msal meets in answers that are no good
            raise unreadable("none that msal understands") from error


def _application(profile: Profile, proof: Proof | None, wire: Wire) -> Any:
    import msal  # type: ignore[import-untyped]

    options: Mapping[str, Any] = {
        "authority": f"{profile.cloud.authority}/{profile.tenant}",
        "instance_discovery": False,
        "http_client": wire,
        "token_cache": NoCache(),
    }
    try:
        if proof is None:
            return msal.PublicClientApplication(profile.client_id, **options)
        signed = credential(proof, lambda: proof.value if isinstance(proof, Assertion) else "")
        return msal.ConfidentialClientApplication(profile.client_id, client_credential=signed, **options)
    except KeyError as error:
        raise AuthorityDown("authority_unreadable", "The authority's metadata lack an endpoint.", "Check the profile's `cloud`.") from error
