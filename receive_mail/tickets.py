"""Tickets of queue `mail-sync`: one asks for one mailbox to be synced, `{"account": NAME}`."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mailroom.errors import BadInput
from mailroom.events import record
from mailroom.model.account import Account
from mailroom.model.places import SYNC_POISON, SYNC_QUEUE
from mailroom.ports import Store

SHOWN = 6000  # characters of a message that nobody can read: with its reason, and six bytes a character, it has to fit a message again


class _Ticket(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    account: str


def ticket(account: Account) -> bytes:
    return msgspec.json.encode(_Ticket(account.name))


def addressee(body: bytes, accounts: Mapping[str, Account]) -> Account:
    """The mailbox that a ticket is for. Raises BadInput."""
    try:
        name = msgspec.json.decode(body, type=_Ticket).account
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput("sync_ticket_invalid", f"The message is no ticket: {error}.", 'Send {"account": NAME}.') from error
    account = accounts.get(name)
    if account is None or not account.receive:
        known = ", ".join(sorted(known.name for known in accounts.values() if known.receive)) or "none"
        raise BadInput("account_unknown", f"There is no receiving account {name!r}.", f"Receiving accounts: {known}.", field="account")
    return account


async def plan(store: Store, accounts: Mapping[str, Account]) -> None:
    """A ticket for each mailbox, so that a thousand of them spread over instances; none while the last ones still wait."""
    receiving = [account for account in accounts.values() if account.receive]
    waiting = await store.queue_length(SYNC_QUEUE) if receiving else 0
    if waiting > 2 * len(receiving):
        record("sync.behind", warn=True, waiting=waiting, mailboxes=len(receiving))
        return
    for account in receiving:
        await store.put_ticket(SYNC_QUEUE, ticket(account))


async def poison(store: Store, body: bytes, why: BadInput) -> None:
    """What nobody can read, with the reason, for a person to look at."""
    record("queue.refused", warn=True, code=why.code, detail=why.detail)
    original = body.decode("utf-8", "replace")[:SHOWN]
    await store.put_ticket(SYNC_POISON, msgspec.json.encode({"reason": str(why)[:1000], "original": original}))
