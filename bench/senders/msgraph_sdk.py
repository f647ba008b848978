"""Microsoft's own msgraph-sdk, with its token given to it."""

import asyncio
from typing import Any

from kiota_abstractions.authentication import AccessTokenProvider, AllowedHostsValidator, BaseBearerTokenAuthenticationProvider
from msgraph import GraphRequestAdapter, GraphServiceClient
from msgraph.generated.models.body_type import BodyType
from msgraph.generated.models.email_address import EmailAddress
from msgraph.generated.models.item_body import ItemBody
from msgraph.generated.models.message import Message
from msgraph.generated.models.recipient import Recipient
from msgraph.generated.users.item.send_mail.send_mail_post_request_body import SendMailPostRequestBody

from bench.senders.task import GRAPH, MAILBOX, SUBJECT, TEXT, TO, TOKEN, measure


class Known(AccessTokenProvider):
    async def get_authorization_token(self, uri: str, additional_authentication_context: dict[str, Any] | None = None) -> str:
        return TOKEN

    def get_allowed_hosts_validator(self) -> AllowedHostsValidator:
        return AllowedHostsValidator([])


async def main() -> None:
    adapter = GraphRequestAdapter(BaseBearerTokenAuthenticationProvider(Known()))
    adapter.base_url = GRAPH
    user = GraphServiceClient(request_adapter=adapter).users.by_user_id(MAILBOX)

    async def send() -> None:
        message = Message(
            subject=SUBJECT,
            body=ItemBody(content_type=BodyType.Text, content=TEXT),
            to_recipients=[Recipient(email_address=EmailAddress(address=TO))],
        )
        await user.send_mail.post(SendMailPostRequestBody(message=message))

    await measure(send)


asyncio.run(main())
