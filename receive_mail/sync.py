"""A mailbox's new mail, page by page: store it, announce it, then move the cursor. Killed anywhere nothing is lost.

A mail is new when it was received since the horizon and was not announced yet; a flag that changed makes none. So the first sync, which
walks the whole folder, and the walk after a lost cursor are the same as any other: most of what they see is no news.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from mailroom.errors import AccountFault, NotSent, ProviderError, Refused, StorageConflict, Throttled, TokenRejected
from mailroom.events import record
from mailroom.flight import Flight
from mailroom.model.account import Account
from mailroom.model.lane import THROTTLED, Permit
from mailroom.model.page import Arrival, Page
from mailroom.model.places import SYNC_QUEUE
from mailroom.model.token import Token
from mailroom.ports import CursorLost, Inbox, Keyring, Store
from mailroom.providers import mime
from mailroom.storage.cursors import Cursor, StoredCursors
from mailroom.storage.inbox import StoredInbox
from mailroom.storage.lanes import StoredLanes
from receive_mail.tickets import ticket

WORK = 250  # pages and mails of one run: a function has ten minutes, and other mailboxes wait
DAY = 86400.0
MOMENT = 1.0  # second

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sync:
    """`turn` is for how many seconds a permit counts, `keep` for how many marks are kept, after which a mail is no news any more."""

    store: Store
    cursors: StoredCursors
    inbox: StoredInbox
    keyring: Keyring
    inbox_of: Callable[[Account], Inbox]
    lanes: StoredLanes
    new_nonce: Callable[[], str]
    turn: float
    keep: float = 30 * DAY
    _flight: Flight[None] = field(default_factory=Flight)

    async def run(self, account: Account) -> None:
        """One ticket. Who comes while its mailbox is being synced here joins that: two at once would tell of each mail twice."""
        await self._flight.join(account.name, lambda: self._run(account))

    async def _run(self, account: Account) -> None:
        try:
            cursor = await self._begin(account)
            if cursor.not_before <= self.store.now():
                await self._in_turn(account, cursor)
        except StorageConflict:
            record("sync.overtaken", account=account.name)

    async def _in_turn(self, account: Account, cursor: Cursor) -> None:
        """Our requests count among the few that a provider takes for a mailbox at a time, so we need a permit as senders do."""
        permit = await self.lanes.join(account, Permit(self.new_nonce(), 1, self.store.now() + self.turn))
        if isinstance(permit, float):
            await self._wait(account, permit - self.store.now())
            return
        rest = 0.0
        try:
            rest = await self._work(account, cursor, permit)
        finally:
            await self.lanes.release(account, permit.nonce, not_before=rest and self.store.now() + rest, why=THROTTLED)

    async def _work(self, account: Account, cursor: Cursor, permit: Permit) -> float:
        """How long the mailbox shall rest. What goes wrong with the account or its provider is for the next tick."""
        try:
            if not await self._pages(account, cursor, permit):
                await self.store.put_ticket(SYNC_QUEUE, ticket(account))
        except Throttled as wait:
            seconds = wait.retry_after or 60.0
            await self._put_off(account, seconds)
            return seconds
        except (AccountFault, ProviderError) as fault:
            record("sync.failed", warn=True, account=account.name, code=fault.code, detail=str(fault))
        return 0.0

    async def _pages(self, account: Account, cursor: Cursor, permit: Permit) -> bool:
        """Whether nothing more waits."""
        work = 0
        while work < WORK:
            permit = await self._kept(account, permit)
            page = await self._page(account, cursor)
            if page is None:
                cursor = msgspec.structs.replace(cursor, link="", walking=True)
                continue
            new = await self.cursors.unseen(account, [one for one in page.arrivals if one.received.timestamp() >= cursor.since])
            announced = []
            for one in new:
                permit = await self._kept(account, permit)
                announced += [one] if await self._take(account, one) else []
            cursor = await self.cursors.save(account, self._moved(cursor, page), announced)
            work += 1 + len(new)
            if page.last:
                await self.cursors.forget(account, cursor.since)
                return True
        return False

    async def _kept(self, account: Account, permit: Permit) -> Permit:
        """For as long as we are at work."""
        if permit.until - self.store.now() > self.turn / 2:
            return permit
        until = self.store.now() + self.turn
        await self.lanes.extend(account, permit.nonce, until)
        return msgspec.structs.replace(permit, until=until)

    async def _begin(self, account: Account) -> Cursor:
        """A mailbox that was never synced starts from now, in whole seconds as the provider counts them, or from the date it was told."""
        found = await self.cursors.read(account)
        if found:
            return found
        since = account.since.timestamp() if account.since else float(int(self.store.now()))
        record("sync.started", account=account.name, since=since)
        return await self.cursors.start(account, since)

    async def _page(self, account: Account, cursor: Cursor) -> Page | None:
        """None when the provider has forgotten the cursor: then the folder is walked anew."""
        ids_only = cursor.walking and account.since is None
        try:
            link, since = cursor.link or None, cursor.since
            return await self._ask(account, lambda inbox, token: inbox.page(account, link, token, ids_only=ids_only, since=since))
        except CursorLost as lost:
            record("cursor.lost", warn=True, account=account.name)
            if cursor.link:
                return None
            raise NotSent("cursor_lost", f"The provider forgot a cursor that it was not given: {lost}") from lost

    async def _take(self, account: Account, arrival: Arrival) -> bool:
        """Stores and announces the mail; False when there is nothing to announce, for it is gone or can't be read."""
        try:
            raw = await self._ask(account, lambda inbox, token: inbox.mime(account, arrival.id, token))
        except Refused as refused:
            record("mail.unreadable", warn=True, account=account.name, id=arrival.id, code=refused.code, detail=refused.detail)
            return False
        if raw is None:
            return False
        mail = await asyncio.to_thread(mime.parse, raw)
        await self.inbox.put(account, arrival, raw, mail)
        record("mail.received", account=account.name, id=arrival.id, size=len(raw))
        return True

    async def _ask(self, account: Account, question: Callable[[Inbox, Token], Awaitable[T]]) -> T:
        """A 401 bars the token everywhere; one new one, one more try."""
        inbox, token = self.inbox_of(account), await self.keyring.token(account)
        try:
            return await question(inbox, token)
        except TokenRejected:
            await self.keyring.bar(account, token)
            return await question(inbox, await self.keyring.token(account))

    def _moved(self, cursor: Cursor, page: Page) -> Cursor:
        """With nothing more waiting the horizon may follow, and with it the marks that are kept."""
        moved = msgspec.structs.replace(cursor, link=page.next, walking=cursor.walking and not page.last, not_before=0.0)
        if not page.last:
            return moved
        return msgspec.structs.replace(moved, since=max(cursor.since, self.store.now() - max(self.keep, DAY)))

    async def _wait(self, account: Account, seconds: float) -> None:
        """While others are at work on the mailbox for a moment; or while it rests, and the timer's tickets are for nothing."""
        if seconds > MOMENT:
            await self._put_off(account, seconds)
        else:
            await self.store.put_ticket(SYNC_QUEUE, ticket(account), delay=MOMENT)

    async def _put_off(self, account: Account, seconds: float) -> None:
        record("sync.put_off", warn=True, account=account.name, seconds=seconds)
        await self.cursors.put_off(account, self.store.now() + seconds)
        await self.store.put_ticket(SYNC_QUEUE, ticket(account), delay=seconds)
