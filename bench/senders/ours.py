"""Ours: the provider alone, with single mails and with slices of twenty."""

import asyncio
import itertools
import time

from bench.senders.task import GRAPH, MAILBOX, SUBJECT, TASK, TEXT, TO, TOKEN, measure
from mailroom import http
from mailroom.model.account import Account, Cloud, Profile
from mailroom.model.message import Address, Message, Outgoing, Receipt
from mailroom.model.token import Token
from mailroom.providers.graph import Graph

CLOUD = Cloud("https://login.example", GRAPH, "scope", "vault", "storage")
ACCOUNT = Account("billing", "graph", MAILBOX, Profile("office", "client_credentials", "tenant", "client", CLOUD))


async def main() -> None:
    token, numbers = Token(TOKEN, time.time() + 3600), itertools.count()
    each = TASK["slice"]
    async with http.new_client() as client:
        graph = Graph(client)

        async def send() -> None:
            mails = [Outgoing(f"s{next(numbers)}", Message("billing", to=(Address(TO),), subject=SUBJECT, text=TEXT)) for _ in range(each)]
            answers = await graph.send(ACCOUNT, mails, token)
            assert all(isinstance(answer, Receipt) for answer in answers), answers

        await measure(send, mails_each=each)


asyncio.run(main())
