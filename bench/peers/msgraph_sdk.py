"""Microsoft's own msgraph-sdk with azure-identity, behind Azure Functions."""

import asyncio

import azure.functions as func
from azure.identity.aio import ClientSecretCredential
from kiota_authentication_azure.azure_identity_authentication_provider import AzureIdentityAuthenticationProvider
from msgraph import GraphRequestAdapter, GraphServiceClient
from msgraph.generated.models.body_type import BodyType
from msgraph.generated.models.email_address import EmailAddress
from msgraph.generated.models.item_body import ItemBody
from msgraph.generated.models.message import Message
from msgraph.generated.models.recipient import Recipient
from msgraph.generated.users.item.send_mail.send_mail_post_request_body import SendMailPostRequestBody

from bench.peers.host import call
from bench.peers.where import SUBJECT, TEXT, TO, WHERE, accepted

app = func.FunctionApp()


@app.route("messages", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
async def post_message(req: func.HttpRequest) -> func.HttpResponse:
    credential = ClientSecretCredential(
        WHERE["tenant"], WHERE["client_id"], WHERE["client_secret"], authority=WHERE["authority"], disable_instance_discovery=True
    )
    async with credential:
        sign_in = AzureIdentityAuthenticationProvider(credential, scopes=[WHERE["graph_scope"]], allowed_hosts=[])
        adapter = GraphRequestAdapter(sign_in)
        adapter.base_url = WHERE["graph"]
        message = Message(
            subject=SUBJECT,
            body=ItemBody(content_type=BodyType.Text, content=TEXT),
            to_recipients=[Recipient(email_address=EmailAddress(address=TO))],
        )
        client = GraphServiceClient(request_adapter=adapter)
        await client.users.by_user_id(WHERE["mailbox"]).send_mail.post(SendMailPostRequestBody(message=message))
    return func.HttpResponse(status_code=202)


asyncio.run(call(app))
accepted()
