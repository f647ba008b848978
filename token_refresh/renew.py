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

        async def one(account: Account) -> Report:
            async with room:
                return await self._renewed(account)

        return list(await asyncio.gather(*map(one, in_use(self.accounts))))

    async def _renewed(self, account: Account) -> Report:
        failed: MailroomError | None = None
        try:
            await self.keyring.renew(account, self.timing.renew_ahead)
        except MailroomError as error:
            failed = error
            record("token.renewal_failed", warn=True, profile=account.profile.name, code=error.code, detail=error.detail)
        report = self.reports.new(account.profile.name, account.provider, failed)
        try:
            await self.reports.put(report)
        except StorageDown as error:
            record("report.lost", warn=True, profile=report.profile, code=error.code)
        return report


@dataclass(frozen=True, slots=True)
class Warn:
    profiles: Collection[Profile]
    vault: Vault
    pace: Pace
    timing: Timing

    async def run(self) -> None:
        """Once a day: what the profiles sign in with and what ends within `warn_ahead`, with the days that are left."""
        if await self.pace.due("warn", DAY) is None:
            return
        try:
            ends = await self.vault.ends()
        except AccountFault as error:
            record("vault.unreadable", warn=True, code=error.code, detail=error.detail, next_step=error.next_step)
            return
        used = {("secret", profile.secret) for profile in self.profiles} | {
            ("certificate", profile.certificate) for profile in self.profiles
        }
        for kind, name, end in ends:
            left = end.timestamp() - self.pace.store.now()
            if (kind, name) in used and left <= self.timing.warn_ahead:
                record("credential.expiring", warn=True, kind=kind, name=name, ends=f"{end:%Y-%m-%d}", days=int(left // DAY))
        await self.pace.done("warn")


def in_use(accounts: Collection[Account]) -> list[Account]:
    """One account for each profile and provider: those of the same pair share their token."""
    return list({(account.profile.name, account.provider): account for account in accounts}.values())
