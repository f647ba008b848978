"""Ours, the whole path: ticket → blob → ledger → provider → ledger, on Azurite. The batch is accepted before the clock starts.

What the platform does in Azure is not counted: here a loop receives the tickets in its place and deletes them afterwards.
"""

import asyncio
import time
from dataclasses import dataclass, field

from bench.senders.task import GRAPH, MAILBOX, MAILS, SUBJECT, TASK, TEXT, TO, TOKEN, WARM_UP, tell
from mailroom import http
from mailroom.model.account import Account, Cloud, Profile, Storage, Timing
from mailroom.model.message import Address, Message
from mailroom.model.places import OUTBOX_QUEUE
from mailroom.model.token import Token
from mailroom.providers.graph import Graph
from mailroom.storage.keys import StoredKeys
from mailroom.storage.lanes import StoredLanes
from mailroom.storage.ledger import StoredLedger
from mailroom.storage.outbox import StoredOutbox, read_ticket
from mailroom.storage.rest import RestStore
from send_mail.accept import Accept
from send_mail.deliver import Deliver, nonces
from send_mail.line import Line

CLOUD = Cloud("https://login.example", GRAPH, "scope", "vault", "storage")
ACCOUNT = Account("billing", "graph", MAILBOX, Profile("office", "client_credentials", "tenant", "client", CLOUD), rate=1e6)


@dataclass
class Keys:
    token_: Token = field(default_factory=lambda: Token(TOKEN, time.time() + 36000))

    async def token(self, account: Account) -> Token:
        return self.token_

    async def bar(self, account: Account, token: Token) -> None:
        raise AssertionError("the provider takes every token")


async def main() -> None:
    async with http.new_client() as client:
        store = RestStore(Storage(**TASK["storage"]), client, None, resource="")  # type: ignore[arg-type]  # a key needs no identity
        graph = Graph(client)
        deliver = Deliver(
            accounts={"billing": ACCOUNT},
            timing=Timing(),
            store=store,
            ledger=StoredLedger(store),
            lanes=StoredLanes(store),
            outbox=StoredOutbox(store),
            keyring=Keys(),
            sender_of=lambda _: graph,
            monotonic=time.monotonic,
            new_nonce=nonces(f"bench{time.time_ns():x}"),
        )
        mail = Message("billing", to=(Address(TO),), subject=SUBJECT, text=TEXT)
        lines = [Line(number, mail) for number in range(1, MAILS + WARM_UP + 1)]
        await Accept(deliver, StoredKeys(store)).batch(lines, [], "bench", "bench")
        await worked(deliver, store, WARM_UP)
        cpu, clock, sent = 0.0, 0.0, 0
        while sent < MAILS:
            spent, took, more = await worked(deliver, store, MAILS - sent)
            cpu, clock, sent = cpu + spent, clock + took, sent + more
        tell(cpu, clock, sent)


async def worked(deliver: Deliver, store: RestStore, most: int) -> tuple[float, float, int]:
    """CPU seconds, seconds and mails of the tickets that are there now."""
    tickets = await store.receive(OUTBOX_QUEUE, top=max(1, min(4, most // 20)))
    cpu, clock, sent = time.process_time(), time.perf_counter(), 0
    for ticket in tickets:
        ref = read_ticket(ticket.body)
        assert ref is not None, ticket.body
        done = await deliver.work(ref)
        sent += sum(one.status == "sent" for one in done.mails) if done else 0
    spent, took = time.process_time() - cpu, time.perf_counter() - clock
    for ticket in tickets:
        await store.delete_ticket(OUTBOX_QUEUE, ticket)
    return spent, took, sent


asyncio.run(main())
