"""The doors of the receiving room: a timer that asks for every mailbox, and a queue trigger that syncs one."""

from __future__ import annotations

import azure.functions as func
import msgspec

from mailroom import wiring
from mailroom.events import record
from mailroom.model.account import Account
from mailroom.model.places import SYNC_POISON, SYNC_QUEUE
from mailroom.storage.cursors import StoredCursors
from mailroom.storage.inbox import StoredInbox
from receive_mail.sync import DAY, Sync, SyncTicket, ticket

SHOWN = 8192  # characters of a message that nobody can read: with its reason it has to fit a message again

blueprint = func.Blueprint()


@wiring.once
def sync() -> Sync:
    store = wiring.store()
    keep = wiring.settings().keep_days * DAY
    return Sync(store, StoredCursors(store), StoredInbox(store), wiring.keyring(), wiring.inbox, keep)


@blueprint.timer_trigger("timer", wiring.settings().schedules.sync)
@blueprint.function_name("plan_sync")
async def plan_sync(timer: func.TimerRequest) -> None:
    """A ticket for each mailbox, so that a thousand of them spread over instances; none while the last ones still wait."""
    receiving = [account for account in wiring.settings().accounts.values() if account.receive]
    waiting = await wiring.store().queue_length(SYNC_QUEUE) if receiving else 0
    if waiting > 2 * len(receiving):
        record("sync.behind", warn=True, waiting=waiting, mailboxes=len(receiving))
        return
    for account in receiving:
        await wiring.store().put_ticket(SYNC_QUEUE, ticket(account))


@blueprint.queue_trigger("msg", SYNC_QUEUE, "AzureWebJobsStorage")
@blueprint.function_name("sync_inbox")
async def sync_inbox(msg: func.QueueMessage) -> None:
    """What is no ticket for a mailbox of ours is poisoned at once, not tried five times."""
    found = _account(msg.get_body())
    if isinstance(found, Account):
        await sync().run(found)
        return
    record("queue.refused", warn=True, code="sync_ticket_invalid", detail=found)
    original = msg.get_body().decode("utf-8", "replace")[:SHOWN]
    await wiring.store().put_ticket(SYNC_POISON, msgspec.json.encode({"reason": found, "original": original}))


def _account(body: bytes) -> Account | str:
    """The account that a ticket names, or what is wrong with the ticket."""
    try:
        name = msgspec.json.decode(body, type=SyncTicket).account
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f'sync_ticket_invalid: {error}. A ticket is {{"account": NAME}}.'
    account = wiring.settings().accounts.get(name)
    if account is None or not account.receive:
        return f"account_unknown: There is no receiving account {name!r}."
    return account
