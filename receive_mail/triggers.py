"""The doors of the receiving room: a timer that asks for every mailbox, and a queue trigger that syncs one."""

from __future__ import annotations

import azure.functions as func

from mailroom import wiring
from mailroom.errors import BadInput
from mailroom.events import during
from mailroom.model.places import SYNC_QUEUE
from mailroom.storage.cursors import StoredCursors
from mailroom.storage.inbox import StoredInbox
from receive_mail.sync import DAY, Sync
from receive_mail.tickets import addressee, plan, poison

blueprint = func.Blueprint()


@wiring.once
def sync() -> Sync:
    store, settings = wiring.store(), wiring.settings()
    cursors, inbox = StoredCursors(store), StoredInbox(store)
    lanes, turn, keep = wiring.lanes(), settings.timing.claim, settings.keep_days * DAY
    return Sync(store, cursors, inbox, wiring.keyring(), wiring.inbox, lanes, wiring.random_prefix, turn, keep)


@blueprint.timer_trigger("timer", wiring.settings().schedules.sync)
@blueprint.function_name("plan_sync")
async def plan_sync(timer: func.TimerRequest, context: func.Context) -> None:
    with during(context):
        await plan(wiring.store(), wiring.settings().accounts)


@blueprint.queue_trigger("msg", SYNC_QUEUE, "AzureWebJobsStorage")
@blueprint.function_name("sync_inbox")
async def sync_inbox(msg: func.QueueMessage, context: func.Context) -> None:
    """What is no ticket for a mailbox of ours is poisoned at once, not tried five times."""
    with during(context):
        await _sync_inbox(msg)


async def _sync_inbox(msg: func.QueueMessage) -> None:
    try:
        account = addressee(msg.get_body(), wiring.settings().accounts)
    except BadInput as error:
        await poison(wiring.store(), msg.get_body(), error)
        return
    await sync().run(account)
