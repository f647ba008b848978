"""What became of each profile's last renewal, for the health page. Table MailTokens, partition `refresh`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import msgspec

from mailroom.errors import MailroomError
from mailroom.model.account import Account
from mailroom.model.places import TOKENS_TABLE
from mailroom.model.row import Change, Row
from mailroom.ports import Store

PARTITION = "refresh"


class Report(msgspec.Struct, frozen=True):
    """`code` is the error's, "" when all was well; `at` is when, in seconds since the epoch."""

    profile: str
    provider: str
    at: float
    code: str = ""

    @property
    def ok(self) -> bool:
        return not self.code


@dataclass(frozen=True, slots=True)
class Reports:
    store: Store

    def new(self, profile: str, provider: str, error: MailroomError | None) -> Report:
        return Report(profile, provider, self.store.now(), error.code if error else "")

    async def put(self, report: Report) -> None:
        values = msgspec.structs.asdict(report)
        await self.store.write(TOKENS_TABLE, [Change("upsert", Row(PARTITION, f"{report.profile}|{report.provider}", values))])

    async def of(self, accounts: Collection[Account]) -> list[Report]:
        """Those of the profiles that these accounts use; what other profiles once did is no news."""
        used = {(side.profile.name, side.provider) for account in accounts for side in account.sides}
        reports = [msgspec.convert(row.values, Report) for row in await self.store.query(TOKENS_TABLE, PARTITION)]
        return [report for report in reports if (report.profile, report.provider) in used]
