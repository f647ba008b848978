"""From a checked message to what the ledger owes: single mails and batches, each accepted once whatever is repeated."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from mailroom.errors import BadInput, Conflict, StorageConflict, StorageDown
from mailroom.events import record
from mailroom.model.account import Account
from mailroom.model.batch import Batch, RefusedLine
from mailroom.model.message import Attachment, Message
from mailroom.model.places import OUTBOX_CONTAINER
from mailroom.model.slice import SLICE_BYTES, Mail, Ref, Slice
from mailroom.ports import Preparer
from mailroom.storage.keys import Entry, StoredKeys
from send_mail import estimate
from send_mail.claim import Claim
from send_mail.deliver import Deliver
from send_mail.line import Owed, size_of
from send_mail.slicing import Slices, sliced
from send_mail.uploads import Uploads, check

KEY_LIFETIME = 48 * 3600.0
RESUMABLE = 12 * 3600.0  # a batch cut off before its commit is begun anew after that: the sweep forgets it after a day
AT_ONCE = 8
SLICES_A_WRITE = 40  # with their markers 80 of the 100 changes that a table transaction takes


@dataclass(frozen=True, slots=True)
class Accept:
    deliver: Deliver
    keys: StoredKeys

    @property
    def uploads(self) -> Uploads:
        return Uploads(self.deliver.store, self.deliver.new_nonce)

    def check(self, message: Message) -> Account:
        """The account that sends it, if it may and its provider can carry the mail. Raises BadInput."""
        account = self.deliver.accounts.get(message.account)
        if account is None or not account.send:
            known = ", ".join(sorted(name for name, one in self.deliver.accounts.items() if one.send)) or "none"
            what = f"There is no sending account {message.account!r}."
            raise BadInput("account_unknown", what, f"Sending accounts: {known}.", field="account")
        check(message, account)
        _within_a_day(message, account)
        sender = self.deliver.sender_of(account)
        sender.check(message)
        if isinstance(sender, Preparer):
            sender.admit(account, message)
        return account

    async def with_uploads(self, message: Message, caller: str, key: str | None = None) -> Message:
        """The message with its uploads pinned down, checked anew by its true size. Raises BadInput.

        What was accepted before needs no uploads any more: a request may be repeated when they are gone.
        """
        if not message.uploads:
            return message
        try:
            ready = self.uploads.attached(message, await self.uploads.find([message], caller), caller)
        except BadInput:
            if await self._was_accepted(message, caller, key):
                return message
            raise
        self.check(ready)
        return ready

    async def _was_accepted(self, message: Message, caller: str, key: str | None) -> bool:
        by_key = await self.keys.find("key", caller, key) if key else None
        by_id = await self.keys.find("id", caller, message.id) if message.id else None
        found = [await self.deliver.ledger.read(Ref(entry.account, entry.unit)) for entry in (by_key, by_id) if entry]
        return any(found)

    async def single(self, message: Message, caller: str, request: str, key: str | None = None, *, unit: str | None = None) -> Slice:
        """Accepts the mail and tries to send it at once. `request` is the request's hash; `unit` a name to use where it has none.

        The same id or key with the same request goes on with what is there; with another request raises Conflict.
        """
        account = self.check(message)
        message = await self.with_uploads(message, caller, key)
        ref, known = await self._name(message, caller, request, key, unit or f"m{self.deliver.new_nonce()}")
        if known:
            found = await self.deliver.ledger.read(ref)
            if found is not None:
                return await self._go_on(found)
        mail = Mail(id=message.id or ref.unit, stamp=f"{ref.unit}.0.0", recipients=len(message.recipients))
        born = Slice(ref=ref, caller=caller, mails=(mail,), created=self.deliver.store.now())
        opened, put = self.deliver.ledger.open(ref.account), self.deliver.outbox.put(ref, [message])
        _, _, claim = await asyncio.gather(opened, put, self._claim(account, born, message, caller))
        if isinstance(claim, float) and claim > born.created:
            born = await self._waiting(account, born, claim)
        return await self._born(born, claim, message)

    async def _waiting(self, account: Account, born: Slice, until: float) -> Slice:
        """A mail whose lane has no room for it now says why, and until when."""
        lane = await self.deliver.lanes.look(account)
        return born.with_mails(mail.pending(until, lane.reason(born.created, until)) for mail in born.mails)

    async def _claim(self, account: Account, born: Slice, message: Message, caller: str) -> Claim | float:
        """A mail whose uploads make it large takes longer than who asks can wait: its ticket sends it."""
        if message.uploads and size_of(message) > SLICE_BYTES:
            return born.created
        return await self.deliver.take(account, born, single=caller != QUEUE, born=True)

    async def _born(self, born: Slice, claim: Claim | float, message: Message) -> Slice:
        wanted = claim.ours if isinstance(claim, Claim) else born
        row = await self._inserted(wanted)
        if row.claim != wanted.claim or row.claim_until != wanted.claim_until:  # the same request at the same moment: the other one has it
            if isinstance(claim, Claim):
                await self.deliver.lanes.release(claim.account, claim.ours.claim, unsent=claim.recipients)
            return row
        try:
            if isinstance(claim, Claim):
                return await self.deliver.attempt(replace(claim, ours=row), [message])
            await self.deliver.tickets.refill(born.ref.account)
        except StorageDown as error:  # it is accepted and perhaps sent: who is told that it failed would send it again
            _goes_on(row.ref, error)
        return row

    async def _inserted(self, row: Slice) -> Slice:
        """The row as it stands in the ledger, by whose ETag it is settled. Where the insert's answer was lost, what is there tells."""
        try:
            [etag] = await self.deliver.ledger.insert([row])
        except (StorageConflict, StorageDown) as error:
            found = await self.deliver.ledger.read(row.ref)
            if found is None:
                raise StorageDown("storage_down", "The mail could not be written to the ledger.") from error
            return found
        return msgspec.structs.replace(row, etag=etag)

    async def _go_on(self, found: Slice) -> Slice:
        """What was accepted before: finish it where nobody is at work on it. Its ticket stays what it is, however often it is asked for."""
        account, now = self.deliver.accounts.get(found.ref.account), self.deliver.store.now()
        ready = found.lapsed(now, self.deliver.timing.grace)
        if account is None or not ready.owed or ready.due > now:
            return found
        claim = await self.deliver.take(account, ready, single=True)
        return found if isinstance(claim, float) else await self.deliver.attempt(claim)

    async def _name(self, message: Message, caller: str, request: str, key: str | None, fresh: str) -> tuple[Ref, bool]:
        """Where the mail lies, and whether its names were used before."""
        now, account = self.deliver.store.now(), message.account
        unit = "m" + hashlib.sha256(f"{caller}\0{message.id}".encode()).hexdigest()[:32] if message.id else fresh
        known = False
        if key:
            ours = Entry("key", caller, key, request, account, unit, now)
            entry = await self.keys.first(ours, lifetime=KEY_LIFETIME)
            _same(entry, request, "idempotency_key_reused", f"Idempotency-Key {key!r} was used for another request.", "Use a new key.")
            unit, known = entry.unit, entry is not ours
        ours = Entry("id", caller, message.id or unit, request, account, unit, now)
        entry = await self.keys.first(ours)
        _same(entry, request, "id_taken", f"Id {ours.name!r} was used for another mail.", "Give each mail an id of its own.")
        return Ref(entry.account, entry.unit), known or entry is not ours

    async def batch(
        self,
        lines: Sequence[Owed],
        refused: list[RefusedLine],
        caller: str,
        request: str,
        key: str | None = None,
        *,
        shared: tuple[Attachment, ...] = (),
        send_at: float = 0.0,
    ) -> Batch:
        """Accepts all lines at once: nothing counts before the commit. The same key and request goes on with the same batch.

        `shared` are the attachments of every one of its mails, which are stored once. Nothing goes before `send_at`.
        """
        begun = await self.begun(caller, request, key)
        if isinstance(begun, Batch):
            return begun
        unit, now = begun
        send_at = send_at if send_at > now else 0.0
        start = send_at or now
        slices = sliced(unit, caller, start, lines, self.deliver.accounts, due=send_at)
        counts = {account: len(parts) for account, parts in slices.items()}
        ends = start + estimate.seconds(lines, self.deliver.accounts)
        batch = Batch(unit, caller, ends, counts, len(refused), accepted=now, send_at=send_at)
        await asyncio.gather(*map(self.deliver.ledger.open, slices))
        if shared:
            await self.deliver.outbox.share(unit, shared)
        await self._put_bodies(slices, sharing=bool(shared))
        await self._put_refused(batch, refused)
        for parts in slices.values():
            await self._insert([slice_ for slice_, _ in parts])
        await self.keys.put(_entries(slices, caller, request, start))
        await self.deliver.ledger.put_batch(batch, commit=True)
        record("batch.accepted", batch=unit, mails=len(lines), refused=len(refused), slices=sum(batch.slices.values()))
        try:
            await asyncio.gather(*map(self.deliver.tickets.refill, slices))
        except StorageDown as error:
            _goes_on(Ref("", unit), error)
        return batch

    async def begun(self, caller: str, request: str, key: str | None) -> Batch | tuple[str, float]:
        """What the key has accepted before; else the batch's name, and since when it counts: also that of a try that was cut off."""
        unit, now = f"b{self.deliver.new_nonce()}", self.deliver.store.now()
        if not key:
            return unit, now
        ours = Entry("key", caller, key, request, "", unit, now)
        entry = await self.keys.first(ours, lifetime=KEY_LIFETIME)
        _same(entry, request, "idempotency_key_reused", f"Idempotency-Key {key!r} was used for another request.", "Use a new key.")
        found = await self.deliver.ledger.batch(entry.unit)
        if found is None and entry.created + RESUMABLE <= now:
            entry = await self.keys.first(ours, lifetime=RESUMABLE)
        return found or (entry.unit, entry.created)

    async def _put_bodies(self, slices: Slices, *, sharing: bool) -> None:
        gate = asyncio.Semaphore(AT_ONCE)

        async def put(slice_: Slice, lines: list[Owed]) -> None:
            async with gate:
                await self.deliver.outbox.put(slice_.ref, [line.message for line in lines], sharing=sharing)

        await asyncio.gather(*(put(*part) for parts in slices.values() for part in parts))

    async def _put_refused(self, batch: Batch, refused: list[RefusedLine]) -> None:
        if refused:
            await self.deliver.store.put_blob(OUTBOX_CONTAINER, refused_name(batch.id), msgspec.json.encode(refused))

    async def _insert(self, slices: list[Slice]) -> None:
        """A conflict is our own earlier try, cut off before its commit: the same key and request make the same rows."""
        for at in range(0, len(slices), SLICES_A_WRITE):
            try:
                await self.deliver.ledger.insert(slices[at : at + SLICES_A_WRITE])
            except StorageConflict:
                record("batch.resumed", batch=slices[at].ref.unit)


QUEUE = "queue"  # who put a plain message on the queue; no caller can have this name, callers are client ids


def _within_a_day(message: Message, account: Account) -> None:
    count = len(message.recipients)
    if account.recipients_a_day and count > account.recipients_a_day:
        what = f"The mail has {count} recipients; account {account.name!r} may have {account.recipients_a_day} a day."
        raise BadInput("recipients_over_day", what, "Send it to fewer, or raise the account's recipients_a_day.", field="to")


def refused_name(batch_id: str) -> str:
    return f"batches/{batch_id}/refused.json"


def request_hash(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _goes_on(ref: Ref, error: StorageDown) -> None:
    """What storage has accepted before it failed is the sweep's from here on."""
    record("accepted.unfinished", warn=True, account=ref.account, unit=ref.unit, code=error.code, detail=error.detail)


def _same(entry: Entry, request: str, code: str, detail: str, next_step: str) -> None:
    if entry.request != request:
        raise Conflict(code, detail, next_step)


def _entries(slices: Slices, caller: str, request: str, now: float) -> list[Entry]:
    """Where to find the mails that have ids of their own."""
    return [
        Entry("id", caller, line.id, request, slice_.ref.account, slice_.ref.unit, now, slice_.ref.slice, at)
        for parts in slices.values()
        for slice_, lines in parts
        for at, line in enumerate(lines)
        if line.id
    ]
