"""python-o365 behind Azure Functions: a fresh process has no token, so it asks for one through msal.

Its msal client is handed in ready-made, since O365 has no setting for an authority outside the public cloud; the instance discovery that
it would do there (one more request) is left out in its favour. So is its pause of 200 ms between requests.
"""

import asyncio

import azure.functions as func
import msal
from O365 import Account, MSGraphProtocol
from O365.utils.token import MemoryTokenBackend

from bench.peers.host import call
from bench.peers.where import SUBJECT, TEXT, TO, WHERE, accepted

app = func.FunctionApp()


class Sandbox(MSGraphProtocol):
    _protocol_url = WHERE["graph"].removesuffix("v1.0")
    _oauth_scope_prefix = WHERE["graph_scope"].removesuffix(".default")


def send() -> None:
    account = Account(
        (WHERE["client_id"], WHERE["client_secret"]),
        protocol=Sandbox(),
        auth_flow_type="credentials",
        tenant_id=WHERE["tenant"],
        token_backend=MemoryTokenBackend(),
        requests_delay=0,
    )
    account.con._msal_client = msal.ConfidentialClientApplication(
        WHERE["client_id"],
        client_credential=WHERE["client_secret"],
        authority=f"{WHERE['authority']}/{WHERE['tenant']}",
        token_cache=account.con.token_backend,
        instance_discovery=False,
    )
    assert account.authenticate(requested_scopes=[WHERE["graph_scope"]])
    message = account.mailbox(resource=WHERE["mailbox"]).new_message()
    message.to.add(TO)
    message.subject = SUBJECT
    message.body = TEXT
    assert message.send(save_to_sent_folder=True)


@app.route("messages", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
async def post_message(req: func.HttpRequest) -> func.HttpResponse:
    await asyncio.to_thread(send)
    return func.HttpResponse(status_code=202)


asyncio.run(call(app))
accepted()
