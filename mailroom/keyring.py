"""Hands out live tokens, and alone decides when to have new ones: from memory, else from the sealed cache, else from the authority.

Whoever wants the same token at the same time waits for one question. A token that a provider refused is handed out no more. What the
authority refused is not asked again for a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mailroom.errors import AccountFault, AuthorityDown, AuthorityRefused, MailroomError, StorageDown
from mailroom.events import answered_by, record
from mailroom.flight import Flight
from mailroom.model.account import Account, Profile
from mailroom.model.token import NO_TOKEN, Token
from mailroom.ports import Credential, Tokens

MARGIN = 300.0  # seconds before a token's end from when on it counts as ended; of a short-lived one, the last sixth of its life
REFUSED_FOR = 60.0


class Wanted(NamedTuple):
    """What a token is for: accounts of one profile and one scope share it."""

    profile: Profile
    scope: str

    @property
    def key(self) -> str:
        """Its name in the sealed cache: another tenant, client, authority, user or mailbox under the same profile name is another token."""
        profile = self.profile
        parts = (profile.name, profile.cloud.authority, profile.tenant, profile.client_id, self.scope)
        whose = (dict(profile.options).get("username", ""), profile.subject)
        return "|".join((*parts, *filter(None, whose)))


class _Rest(NamedTuple):
    """The authority's refusal, and until when it stands."""

    why: AuthorityRefused | AuthorityDown
    until: float


class Keyring:
    def __init__(
        self,
        tokens: Tokens,
        credential_of: Callable[[Profile], Credential],
        *,
        scope_of: Callable[[Account], str],
        now: Callable[[], float] = time.time,
        margin: float = MARGIN,
        refused_for: float = REFUSED_FOR,
    ) -> None:
        self._tokens = tokens
        self._credential_of = credential_of
        self._scope_of = scope_of
        self._now = now
        self._margin = margin
        self._refused_for = refused_for
        self._kept: dict[Wanted, Token] = {}
        self._bars: dict[str, float] = {}
        self._rests: dict[Wanted, _Rest] = {}
        self._flight = Flight[Token]()

    async def token(self, account: Account) -> Token:
        """Raises AuthorityRefused, AuthorityDown, VaultRefused, VaultDown."""
        if not account.traits.signs_in:
            return NO_TOKEN
        wanted = self._wanted(account)
        kept = self._kept.get(wanted)
        if kept is not None and await self._is_good(kept):
            return kept
        return await self._flight.join(wanted, lambda: self._find(wanted))

    async def bar(self, account: Account, token: Token) -> None:
        """The provider refused this very token: no instance hands it out again."""
        wanted = self._wanted(account)
        record("token.rejected", warn=True, by="provider", account=account.name, profile=wanted.profile.name, token=token.fingerprint)
        self._bars = {name: end for name, end in self._bars.items() if end > self._now()} | {token.fingerprint: token.expires_at}
        if self._kept.get(wanted) == token:
            del self._kept[wanted]
        try:
            await self._tokens.bar(token)
        except (StorageDown, AccountFault) as error:
            _cache_failed("bar", error)

    async def renew(self, account: Account, ahead: float) -> bool:
        """Has a new token when the one that all instances share ends within `ahead` seconds. Raises what `token` raises."""
        if not account.traits.signs_in:
            return False
        wanted = self._wanted(account)
        known = await self._shared(wanted) or self._kept.get(wanted)
        if known is not None and known.good_until(self._margin) > self._now() + ahead and await self._is_good(known):
            self._keep(wanted, known)
            return False
        await self._newer(wanted, known)
        return True

    def _wanted(self, account: Account) -> Wanted:
        return Wanted(account.profile, self._scope_of(account))

    async def _find(self, wanted: Wanted) -> Token:
        shared = await self._shared(wanted)
        if shared is not None and await self._is_good(shared):
            self._keep(wanted, shared)
            return shared
        return await self._newer(wanted, self._kept.get(wanted))

    def _keep(self, wanted: Wanted, shared: Token) -> None:
        """What the sealed cache had, and this instance did not."""
        if self._kept.get(wanted) != shared:
            record("token.reused", profile=wanted.profile.name, scope=wanted.scope, token=shared.fingerprint)
        self._kept[wanted] = shared

    async def _newer(self, wanted: Wanted, old: Token | None) -> Token:
        """One question for who wants a token and who renews it, also where one of them comes just after the other's answer."""
        return await self._flight.join((wanted, "new"), lambda: self._replaced(wanted, old))

    async def _replaced(self, wanted: Wanted, old: Token | None) -> Token:
        kept = self._kept.get(wanted)
        if kept is not None and kept != old and await self._is_good(kept):
            return kept
        return await self._fetch(wanted, again=old is not None)

    async def _fetch(self, wanted: Wanted, *, again: bool) -> Token:
        self._keep_rest(wanted)
        with answered_by() as ids:
            token = await self._asked(wanted, ids)
        self._kept[wanted] = token
        facts: dict[str, Any] = {"profile": wanted.profile.name, "scope": wanted.scope, "token": token.fingerprint}
        seconds = round(token.expires_at - self._now())
        record("token.refreshed" if again else "token.fetched", **facts, seconds=seconds, **_both(ids))
        try:
            await self._tokens.put(wanted.key, token)
        except (StorageDown, AccountFault) as error:
            _cache_failed("put", error)
        return token

    async def _asked(self, wanted: Wanted, ids: Mapping[str, str]) -> Token:
        """`ids` become those of the authority's last answer."""
        named: dict[str, Any] = {"profile": wanted.profile.name, "scope": wanted.scope}
        try:
            return await self._credential_of(wanted.profile).ask(wanted.scope)
        except AuthorityRefused as error:
            self._rests[wanted] = _Rest(error, self._now() + self._refused_for)
            told = {"code": error.code, "error": error.error or None, "next_step": error.next_step}
            record("token.rejected", warn=True, by="authority", **named, **told, **_both(ids, error))
            raise
        except AccountFault as error:
            if isinstance(error, AuthorityDown):
                self._rests[wanted] = _Rest(error, self._now() + (error.retry_after or 0.0))
            why = {"code": error.code, "detail": error.detail, "next_step": error.next_step}
            record("token.failed", warn=True, **named, **why, retry_after=error.retry_after, **_both(ids))
            raise

    def _keep_rest(self, wanted: Wanted) -> None:
        """Raises what the authority said last, as long as that stands."""
        rest = self._rests.pop(wanted, None)
        if rest is None or rest.until <= self._now():
            return
        self._rests[wanted] = rest
        if isinstance(rest.why, AuthorityDown):
            raise AuthorityDown(rest.why.code, rest.why.detail, rest.why.next_step, retry_after=rest.until - self._now())
        raise rest.why.with_traceback(None)

    async def _shared(self, wanted: Wanted) -> Token | None:
        """What the sealed cache has. Without it, sending still goes on as long as the authority answers."""
        try:
            return await self._tokens.get(wanted.key)
        except (StorageDown, AccountFault) as error:
            _cache_failed("get", error)
            return None

    async def _is_good(self, token: Token) -> bool:
        if token.good_until(self._margin) <= self._now() or token.fingerprint in self._bars:
            return False
        try:
            barred = await self._tokens.barred(token)
        except (StorageDown, AccountFault) as error:
            _cache_failed("barred", error)
            barred = False
        return not barred and token.fingerprint not in self._bars


def _both(ids: Mapping[str, str], refused: AuthorityRefused | None = None) -> dict[str, Any]:
    """By which the tenant's sign-in log knows the request; what a refusal itself says of them goes before the answer's headers."""
    found = {"trace_id": ids.get("trace_id"), "correlation_id": ids.get("correlation_id")}
    said = {"trace_id": refused.trace_id, "correlation_id": refused.correlation_id} if refused else {}
    return found | {name: value for name, value in said.items() if value}


def _cache_failed(operation: str, error: MailroomError) -> None:
    record("token_cache.failed", warn=True, operation=operation, code=error.code, detail=error.detail)
