"""What a portion of a batch makes, written so that who writes it a second time, or much too late, changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from mailroom.errors import StorageConflict
from mailroom.model.intake import Intake, Share
from mailroom.model.places import OUTBOX_CONTAINER
from mailroom.model.slice import Ref, Slice
from send_mail.accept import AT_ONCE, SLICES_A_WRITE
from send_mail.deliver import Deliver
from send_mail.line import Owed
from send_mail.reader import Read, ids_name, refused_part
from send_mail.slicing import Slices


class Otherwise(Exception):
    """It is there already, and is not the same: accounts or limits have changed since."""


async def write(deliver: Deliver, intake: Intake, found: Read, slices: Slices, *, sharing: bool) -> None:
    """Bodies, rows, the lines that are left behind and the ids. Raises Otherwise."""
    await asyncio.gather(*map(deliver.ledger.open, slices))
    await _put_bodies(deliver, [part for parts in slices.values() for part in parts], sharing)
    for parts in slices.values():
        for at in range(0, len(parts), SLICES_A_WRITE):
            await _insert(deliver, [slice_ for slice_, _ in parts[at : at + SLICES_A_WRITE]])
    if found.refused:
        await deliver.store.put_blob(OUTBOX_CONTAINER, refused_part(intake.id, intake.chunk), msgspec.json.encode(found.refused))
    if found.new_ids:
        await deliver.store.put_blob(OUTBOX_CONTAINER, ids_name(intake.id, intake.chunk), found.new_ids)


async def _put_bodies(deliver: Deliver, parts: Sequence[tuple[Slice, list[Owed]]], sharing: bool) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def put(slice_: Slice, lines: list[Owed]) -> None:
        async with room:
            try:
                await deliver.outbox.put_once(slice_.ref, [line.message for line in lines], sharing=sharing)
            except StorageConflict as error:
                raise Otherwise from error

    await asyncio.gather(*(put(*part) for part in parts))


async def _insert(deliver: Deliver, slices: list[Slice]) -> None:
    """A conflict is an earlier try at the same portion: then what is there must be the same."""
    try:
        await deliver.ledger.insert(slices)
        return
    except StorageConflict:
        there = {slice_.ref: slice_ for slice_ in await deliver.ledger.part(slices[0].ref, len(slices))}
    if any(slice_.ref in there and there[slice_.ref].mails != slice_.mails for slice_ in slices):
        raise Otherwise
    missing = [slice_ for slice_ in slices if slice_.ref not in there]
    if missing:
        await deliver.ledger.insert(missing)


def shares(before: Sequence[Share], slices: Slices) -> tuple[Share, ...]:
    """With what the portion has added to them."""
    known = {share.account: share for share in before}
    for account, parts in slices.items():
        had = known.get(account, Share(account))
        mails = [mail for slice_, _ in parts for mail in slice_.mails]
        known[account] = msgspec.structs.replace(
            had,
            slices=had.slices + len(parts),
            mails=had.mails + len(mails),
            recipients=had.recipients + sum(mail.recipients for mail in mails),
        )
    return tuple(known.values())


def next_part(intake: Intake, count: int) -> tuple[Ref, Intake] | None:
    """The first slice whose ids are not entered yet, and the intake once it and those behind it are; None when all are."""
    for at, share in enumerate(intake.shares):
        if share.named < share.slices:
            named = msgspec.structs.replace(share, named=min(share.named + count, share.slices))
            after = msgspec.structs.replace(intake, shares=(*intake.shares[:at], named, *intake.shares[at + 1 :]))
            return Ref(share.account, intake.id, share.named), after
    return None
