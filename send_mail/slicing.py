"""Lines become slices, account by account in the order of their appearance: each fits into one request, and into a day of its mailbox."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mailroom.model.account import Account
from mailroom.model.intake import Share
from mailroom.model.slice import SLICE_BYTES, SLICE_MAILS, Mail, Ref, Slice
from send_mail.line import Owed

SLICE_RECIPIENTS = 500  # what one mail may have: so a slice of many mails waits for no more room than that

Slices = Mapping[str, list[tuple[Slice, list[Owed]]]]


def parted(lines: Iterable[Owed], accounts: Mapping[str, Account]) -> dict[str, list[list[Owed]]]:
    """What goes into one slice each."""
    parts: dict[str, list[list[Owed]]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for line in lines:
        mine = parts.setdefault(line.account, [])
        size, recipients = sizes.get(line.account, (0, 0))
        size, recipients = size + line.size, recipients + line.recipients
        if not mine or len(mine[-1]) == SLICE_MAILS or size > SLICE_BYTES or recipients > _most(accounts[line.account]):
            mine.append([])
            size, recipients = line.size, line.recipients
        mine[-1].append(line)
        sizes[line.account] = size, recipients
    return parts


def sliced(
    unit: str,
    caller: str,
    created: float,
    lines: Iterable[Owed],
    accounts: Mapping[str, Account],
    *,
    due: float = 0.0,
    shares: tuple[Share, ...] = (),
) -> Slices:
    """The slices of a batch of that name; their numbers follow those that `shares` says are there already. Nothing goes before `due`."""
    begun = {share.account: (order, share.slices) for order, share in enumerate(shares)}
    found: dict[str, list[tuple[Slice, list[Owed]]]] = {}
    for account, parts in parted(lines, accounts).items():
        order, first = begun.setdefault(account, (len(begun), 0))
        refs = [Ref(account, unit, number) for number in range(first, first + len(parts))]
        found[account] = [(_slice(ref, caller, created, order, part, due), part) for ref, part in zip(refs, parts, strict=True)]
    return found


def _most(account: Account) -> int:
    return min(SLICE_RECIPIENTS, account.recipients_a_day or SLICE_RECIPIENTS)


def _slice(ref: Ref, caller: str, created: float, order: int, part: list[Owed], due: float) -> Slice:
    mails = tuple(
        Mail(id=line.id or stamp, line=line.number, due=due, stamp=stamp, recipients=line.recipients)
        for at, line in enumerate(part)
        for stamp in [f"{ref.unit}.{order}.{ref.slice}.{at}"]
    )
    return Slice(ref=ref, caller=caller, mails=mails, created=created, batch=True)
