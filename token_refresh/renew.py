"""Renews the tokens that would end before the timer's next tick, and warns of secrets and certificates near their end."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from mailroom.errors import AccountFault, MailroomError, StorageDown
from mailroom.events import record
from mailroom.model.account import Account, Profile, Timing
from mailroom.ports import Renewer, Vault
from token_refresh.pace import Pace
from token_refresh.reports import Report, Reports

AT_ONCE = 8
DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Renew:
    accounts: Collection[Account]
    keyring: Renewer
    reports: Reports
    timing: Timing

    async def run(self) -> list[Report]:
        """One report for each profile in use, good or bad: one that fails stops no other."""
        room = asyncio.Semaphore(AT_ONCE)

        async def one(account: Account) -> MailroomError | None:
            async with room:
                return await self._renewed(account)

        async def all_of(accounts: Collection[Account]) -> Report:
            failures = await asyncio.gather(*map(one, accounts))
            return await self._reported(next(iter(accounts)), next(filter(None, failures), None))

        return list(await asyncio.gather(*map(all_of, in_use(self.accounts))))

    async def _renewed(self, account: Account) -> MailroomError | None:
        """What went wrong, if anything."""
        try:
            await self.keyring.renew(account, self.timing.renew_ahead)
        except MailroomError as error:
            mailbox = account.profile.subject or None
            facts = {"profile": account.profile.name, "mailbox": mailbox, "code": error.code, "detail": error.detail}
            record("token.renewal_failed", warn=True, **facts)
            return error
        return None

    async def _reported(self, account: Account, failed: MailroomError | None) -> Report:
        report = self.reports.new(account.profile.name, account.provider, failed)
        try:
            await self.reports.put(report)
        except StorageDown as error:
            record("report.lost", warn=True, profile=report.profile, code=error.code)
        return report


@dataclass(frozen=True, slots=True)
class Warn:
    profiles: Collection[Profile]
    accounts: Collection[Account]
    vault: Vault
    pace: Pace
    timing: Timing

    async def run(self) -> None:
        """Once a day: what the profiles sign in with, or an account shows, and what ends within `warn_ahead`, with the days left."""
        if await self.pace.due("warn", DAY) is None:
            return
        try:
            ends = await self.vault.ends()
        except AccountFault as error:
            record("vault.unreadable", warn=True, code=error.code, detail=error.detail, next_step=error.next_step)
            return
        used = {("secret", name) for profile in self.profiles for name in profile.vault_secrets}
        used |= {("certificate", profile.certificate) for profile in self.profiles if profile.certificate}
        used |= {("certificate", name) for account in self.accounts for name in account.vault_certificates}
        for kind, name, end in ends:
            left = end.timestamp() - self.pace.store.now()
            if (kind, name) in used and left <= self.timing.warn_ahead:
                record("credential.expiring", warn=True, kind=kind, name=name, ends=f"{end:%Y-%m-%d}", days=int(left // DAY))
        await self.pace.done("warn")


def in_use(accounts: Collection[Account]) -> list[list[Account]]:
    """By profile and provider, one account for each token: most grants have one for all accounts, some one for each mailbox.

    What only a provider knows of an account may say what its tokens are for. Who does not sign in has none.
    """
    sides = [side for account in accounts for side in account.sides]
    tokens = {(side.profile, side.provider, side.options): side for side in sides if side.traits.signs_in}
    pairs: dict[tuple[str, str], list[Account]] = {}
    for account in tokens.values():
        pairs.setdefault((account.profile.name, account.provider), []).append(account)
    return list(pairs.values())
