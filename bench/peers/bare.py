"""Azure Functions and httpx, with the token asked for by hand: as small as an HTTP-triggered sender can be."""

import asyncio

import azure.functions as func
import httpx

from bench.peers.host import call
from bench.peers.where import WHERE, accepted, graph_mail, token_form

app = func.FunctionApp()


@app.route("messages", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
async def post_message(req: func.HttpRequest) -> func.HttpResponse:
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{WHERE['authority']}/{WHERE['tenant']}/oauth2/v2.0/token", data=token_form())
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        sent = await client.post(f"{WHERE['graph']}/users/{WHERE['mailbox']}/sendMail", json=graph_mail(), headers=headers)
    return func.HttpResponse(status_code=sent.status_code)


asyncio.run(call(app))
accepted()
