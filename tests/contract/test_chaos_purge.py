"""What `make chaos` does to the queue, on the emulator."""

from __future__ import annotations

from collections import Counter

import httpx

from chaos.siege import Siege
from chaos.town import Addresses
from mailroom.model.account import Storage
from mailroom.model.places import OUTBOX_QUEUE
from mailroom.storage.rest import RestStore
from sandbox.azurite import Azurite


def besieged(azurite: Azurite, client: httpx.AsyncClient) -> Siege:
    """Nothing but a queue."""
    return Siege(Addresses("", azurite.connection_string, "", "", "", "", "", {}), [], client, Counter())


async def test_a_purge_takes_hidden_tickets_too(azurite: Azurite, storage: Storage, client: httpx.AsyncClient) -> None:
    """As Clear Messages does: those that show, those that wait for their turn, and the one that somebody works on."""
    store = RestStore(storage, client, None, resource="")  # type: ignore[arg-type]  # a key needs no identity
    for delay in (0.0, 0.0, 3600.0):
        await store.put_ticket(OUTBOX_QUEUE, b"ticket", delay=delay)
    [held] = await store.receive(OUTBOX_QUEUE, top=1, hide=60.0)
    siege = besieged(azurite, client)
    await siege.purge(lambda: store.queue_length(OUTBOX_QUEUE))
    assert (siege.purged, await store.queue_length(OUTBOX_QUEUE)) == (3, 0)
    await store.delete_ticket(OUTBOX_QUEUE, held)


async def test_a_purge_waits_for_something_to_purge(azurite: Azurite, storage: Storage, client: httpx.AsyncClient) -> None:
    """A run that purged an empty queue would have shown nothing."""
    lengths = iter([0, 0, 2])

    async def waiting() -> int:
        return next(lengths)

    await RestStore(storage, client, None, resource="").put_ticket(OUTBOX_QUEUE, b"ticket")  # type: ignore[arg-type]  # a key needs no identity
    siege = besieged(azurite, client)
    await siege.purge(waiting)
    assert siege.purged == 2
