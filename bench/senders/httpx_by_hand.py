"""httpx as its documentation shows it: one AsyncClient, one POST a mail."""

import asyncio

import httpx

from bench.senders.task import GRAPH, MAILBOX, TOKEN, graph_mail, measure


async def main() -> None:
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}) as client:

        async def send() -> None:
            answer = await client.post(f"{GRAPH}/users/{MAILBOX}/sendMail", json=graph_mail())
            assert answer.status_code == 202

        await measure(send)


asyncio.run(main())
