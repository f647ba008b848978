"""What a mail with uploads needs before it can be sent, while its claim is kept alive: it may take longer than a claim lasts.

Nothing here sends. So it may be cut off anywhere and done again, and the fence stays where it was: right before the one call that sends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from mailroom.errors import NotSent
from mailroom.model.account import Timing
from mailroom.model.message import Outgoing
from mailroom.model.token import Token
from mailroom.ports import Preparer, Sender, Store
from mailroom.storage.lanes import StoredLanes
from mailroom.storage.ledger import StoredLedger
from send_mail.claim import Claim, fence
from send_mail.outcome import Answer


class ClaimLost(Exception):
    """Somebody else has the slice: whatever we know, we may not send."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """`every` is after how many seconds a claim is renewed: a third of its life, unless said otherwise."""

    timing: Timing
    store: Store
    ledger: StoredLedger
    lanes: StoredLanes
    sender: Sender
    monotonic: Callable[[], float]
    every: float | None = None

    async def __call__(
        self, claim: Claim, going: dict[int, Outgoing], token: Token
    ) -> tuple[Claim, dict[int, Outgoing], dict[int, Answer]]:
        """The claim as it is by then, the mails that can be sent now, and what became of those that can't."""
        outcomes: dict[int, Outgoing | Answer] = dict(going)
        try:
            for at, mail in going.items():
                if mail.message.uploads and isinstance(self.sender, Preparer):
                    claim, outcomes[at] = await self._one(claim, self.sender, mail, token)
        except ClaimLost:
            return claim, {}, dict.fromkeys(going, NotSent("claim_lost", "Somebody else works on the mail by now.", retry_after=1.0))
        ready = {at: one for at, one in outcomes.items() if isinstance(one, Outgoing)}
        return claim, ready, {at: one for at, one in outcomes.items() if not isinstance(one, Outgoing)}

    async def _one(self, claim: Claim, sender: Preparer, mail: Outgoing, token: Token) -> tuple[Claim, Outgoing | Answer]:
        work = asyncio.ensure_future(self._in_time(sender, claim, mail, token))
        try:
            while not (await asyncio.wait({work}, timeout=self.every or self.timing.claim / 3))[0]:
                claim = await self._renewed(claim)
        finally:
            if work.cancel():
                await asyncio.wait({work})
        return claim if self.monotonic() <= claim.fence else await self._renewed(claim), work.result()

    async def _in_time(self, sender: Preparer, claim: Claim, mail: Outgoing, token: Token) -> Outgoing | Answer:
        try:
            async with asyncio.timeout(self.timing.upload):
                return await sender.prepare(claim.account, mail, token)
        except TimeoutError:
            what = f"The attachments were not with the provider within {self.timing.upload:g} seconds."
            return NotSent("upload_timeout", what, "If this lasts, send less in one mail, or raise timing.upload in accounts.toml.")

    async def _renewed(self, claim: Claim) -> Claim:
        started, until = self.monotonic(), self.store.now() + self.timing.claim
        ours = await self.ledger.renew(claim.ours, until)
        if ours is None:
            raise ClaimLost
        await self.lanes.extend(claim.account, ours.claim, until)
        return replace(claim, ours=ours, fence=fence(started, self.timing))
