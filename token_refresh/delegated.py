"""Renews the refresh tokens in the vault, each about once a week, long before its 90 days are over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass

from mailroom.errors import AccountFault, AuthorityDown, MailroomError
from mailroom.events import record
from mailroom.model.account import Account, Profile
from mailroom.model.row import Row
from mailroom.ports import Credential, Rotates
from mailroom.storage.refresh_tokens import TURN, RefreshTokens

MARGIN = 30.0  # of a turn, seconds: what was begun in it ends in it


@dataclass(frozen=True, slots=True)
class Rotate:
    accounts: Collection[Account]
    credential_of: Callable[[Profile], Credential]
    scope_of: Callable[[Account], str]
    tokens: RefreshTokens
    limit: float = TURN - MARGIN

    async def run(self) -> None:
        """One that fails stops no other; profiles that share a secret share its renewal."""
        found: dict[str, tuple[Account, Rotates]] = {}
        for account in self.accounts:
            credential = self.credential_of(account.profile)
            if isinstance(credential, Rotates):
                found.setdefault(credential.secret_name, (account, credential))
        for owner, rotates in found.values():
            try:
                await self._renewed(owner, rotates)
            except MailroomError as error:
                _tell(owner, rotates, error)

    async def _renewed(self, account: Account, credential: Rotates) -> None:
        turn = await self.tokens.turn(credential.secret_name, due_only=True)
        if turn is None:
            return
        try:
            async with asyncio.timeout(self.limit):
                await self._rotated(turn, account, credential)
        except AccountFault:
            await self.tokens.give_back(turn, failed=True)
            raise
        except TimeoutError as error:
            await self.tokens.give_back(turn, failed=True)
            raise AuthorityDown("authority_timeout", "The renewal of the refresh token did not end in time.") from error

    async def _rotated(self, turn: Row, account: Account, credential: Rotates) -> None:
        new = await credential.rotated(self.scope_of(account))
        if not new:
            await self.tokens.give_back(turn, failed=False)
            return
        await self.tokens.put(turn, new)
        record("refresh_token.rotated", profile=account.profile.name, secret=credential.secret_name)


def _tell(account: Account, credential: Rotates, error: MailroomError) -> None:
    facts = {"code": error.code, "detail": error.detail, "next_step": error.next_step}
    record("refresh_token.rotation_failed", warn=True, profile=account.profile.name, secret=credential.secret_name, **facts)
