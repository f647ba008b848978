"""A sending room of ours on Azurite, for mailboxes that a fixed-answer server plays. Their pace is taken off."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import httpx

from bench.senders.task import GRAPH, MAILBOX, TASK, TOKEN
from mailroom.model.account import Account, Cloud, Profile, Storage, Timing
from mailroom.model.token import Token
from mailroom.providers.graph import Graph
from mailroom.storage.lanes import StoredLanes
from mailroom.storage.ledger import StoredLedger
from mailroom.storage.outbox import StoredOutbox
from mailroom.storage.rest import RestStore
from send_mail.deliver import Deliver, nonces
from send_mail.tickets import Tickets

CLOUD = Cloud("https://login.example", GRAPH, "scope", "vault", "storage")
PROFILE = Profile("office", "client_credentials", "tenant", "client", CLOUD)
ACCOUNTS = {name: Account(name, "graph", MAILBOX, PROFILE, rate=1e6) for name in TASK.get("accounts", ["billing"])}


@dataclass
class Keys:
    token_: Token = field(default_factory=lambda: Token(TOKEN, time.time() + 36000))

    async def token(self, account: Account) -> Token:
        return self.token_

    async def bar(self, account: Account, token: Token) -> None:
        raise AssertionError("the provider takes every token")


def store(client: httpx.AsyncClient) -> RestStore:
    return RestStore(Storage(**TASK["storage"]), client, None, resource="")  # type: ignore[arg-type]  # a key needs no identity


def deliver(client: httpx.AsyncClient, store: RestStore) -> Deliver:
    graph, ledger, outbox = Graph(client), StoredLedger(store), StoredOutbox(store)
    return Deliver(
        accounts=ACCOUNTS,
        timing=Timing(),
        store=store,
        ledger=ledger,
        lanes=StoredLanes(store),
        outbox=outbox,
        tickets=Tickets(store, ledger, outbox, time.monotonic),
        keyring=Keys(),
        sender_of=lambda _: graph,
        monotonic=time.monotonic,
        new_nonce=nonces(f"bench{time.time_ns():x}"),
    )
