"""Other people's clients, unmodified, against the sandbox's Entra and Graph: python-o365 with msal, msgraph-sdk with azure-identity."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.contract.sandbox_graph import City, Office, city

pytestmark = pytest.mark.asyncio(loop_scope="module")

# msgraph-sdk's own parts import what they deprecate
old_parts = pytest.mark.filterwarnings("ignore:(GetQueryParameters|This class) is deprecated:DeprecationWarning")
BIG = os.urandom(3 * 1024 * 1024 + 17) + b"the end"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[City]:
    async with city(tmp_path_factory.mktemp("city")) as served:
        yield served


@pytest.fixture
def office(town: City, monkeypatch: pytest.MonkeyPatch) -> Office:
    """Whose certificate is trusted the way that people do it."""
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, str(town.ca.bundle))
    return town.office()


@pytest_asyncio.fixture(loop_scope="module")
async def account(office: Office) -> AsyncIterator[Any]:
    """python-o365, not signed in yet."""
    made = await asyncio.to_thread(new_account, office)
    yield made
    for session in (made.con.session, made.con.naive_session, made.con._msal_client.http_client):
        if session is not None:
            session.close()


def new_account(office: Office) -> Any:
    """It knows no authority but the public cloud's, so it is handed a ready msal client."""
    import msal  # type: ignore[import-untyped]
    from O365 import Account, MSGraphProtocol
    from O365.utils.token import MemoryTokenBackend

    class Sandbox(MSGraphProtocol):
        _protocol_url = office.city.url.removesuffix("v1.0")
        _oauth_scope_prefix = office.city.url.removesuffix("v1.0")

    app, tenant = office.city.directory.app("graph"), office.city.directory.tenant
    backend = MemoryTokenBackend()
    made = Account(
        (app.client_id, app.secret),
        protocol=Sandbox(),
        auth_flow_type="credentials",
        tenant_id=tenant,
        token_backend=backend,
        requests_delay=0,
        request_retries=0,
    )
    made.con._msal_client = msal.ConfidentialClientApplication(
        app.client_id,
        client_credential=app.secret,
        authority=f"{office.city.directory.authority}/{tenant}",
        token_cache=backend,
        instance_discovery=False,
    )
    return made


def sign_in(account: Any, office: Office) -> Any:
    assert account.authenticate(requested_scopes=[office.city.url.removesuffix("v1.0") + ".default"])
    return account.mailbox(resource=office.anna)


async def test_o365_sends_and_lists(office: Office, account: Any, tmp_path: Path) -> None:
    """A mail with a file goes out; the inbox is listed with a filter, paged, read, marked, answered and moved."""
    file = tmp_path / "Rechnung.pdf"
    file.write_bytes(b"%PDF-1.4")

    def send() -> None:
        message = sign_in(account, office).new_message()
        message.to.add([office.ben, office.anna])
        message.subject = "From O365"
        message.body = "<p>Hello</p>"
        message.attachments.add(str(file))
        assert message.send()

    def read() -> None:
        box = account.mailbox(resource=office.ben)
        inbox = box.inbox_folder()
        wanted = box.new_query().equals("is_read", False) & box.new_query().contains("subject", "o365")
        [message] = inbox.get_messages(query=wanted, download_attachments=True)
        assert (message.sender.address, message.is_read, message.has_attachments) == (office.anna, False, True)
        assert "Hello" in message.body
        assert [(one.name, one.content) for one in message.attachments] == [("Rechnung.pdf", "JVBERi0xLjQ=")]
        assert b"Subject: From O365" in message.get_mime_content()
        assert message.mark_as_read()
        assert list(inbox.get_messages(query=wanted)) == []
        reply = message.reply(to_all=False)
        reply.body = "Thanks"
        assert reply.send()
        assert message.move(box.archive_folder())
        assert [one.subject for one in box.archive_folder().get_messages()] == ["From O365"]

    await asyncio.to_thread(send)
    await asyncio.to_thread(read)
    assert await office.inbox(office.anna) == ["RE: From O365", "From O365"]


async def test_o365_follows_pages(office: Office, account: Any) -> None:
    """Seven mails, three to a page, each once."""
    for number in range(7):
        await office.send(f"Mail {number}")

    def read() -> list[str]:
        sign_in(account, office)
        found = account.mailbox(resource=office.ben).inbox_folder().get_messages(limit=100, batch=3)
        return [message.subject for message in found]

    assert await asyncio.to_thread(read) == [f"Mail {number}" for number in reversed(range(7))]


async def test_o365_uploads_a_large_file(office: Office, account: Any, tmp_path: Path) -> None:
    """A file over 3 MB, added to a saved draft, goes up in a session, chunk by chunk, and arrives whole with the mail."""
    file = tmp_path / "big.bin"
    file.write_bytes(BIG)

    def send() -> None:
        message = sign_in(account, office).new_message()
        message.to.add(office.ben)
        message.subject = "Large"
        assert message.save_draft()
        message.attachments.add(str(file))
        assert message.save_draft()
        assert message.send()

    await asyncio.to_thread(send)
    [got] = await office.values("mailFolders/inbox/messages", user=office.ben)
    [made] = await office.values(f"messages/{got['id']}/attachments?$select=id,name,size", user=office.ben)
    assert (got["subject"], made["name"], made["size"]) == ("Large", "big.bin", len(BIG))
    assert (await office.ask("GET", f"messages/{got['id']}/attachments/{made['id']}/$value", user=office.ben)).content == BIG


async def test_o365_hears_a_refusal(office: Office, account: Any) -> None:
    """What Graph refuses reaches the program as the library's own error, with Graph's words."""
    from requests import HTTPError

    def send() -> None:
        message = sign_in(account, office).new_message()
        message.to.add("nobody at all")
        message.send()

    with pytest.raises(HTTPError, match="not resolved"):
        await asyncio.to_thread(send)


@pytest_asyncio.fixture(loop_scope="module")
async def client(office: Office) -> AsyncIterator[Any]:
    """msgraph-sdk, its token from azure-identity."""
    from azure.core.pipeline.transport import AioHttpTransport
    from azure.identity.aio import ClientSecretCredential
    from kiota_authentication_azure.azure_identity_authentication_provider import AzureIdentityAuthenticationProvider
    from msgraph import GraphRequestAdapter, GraphServiceClient
    from msgraph_core import GraphClientFactory

    directory = office.city.directory
    app = directory.app("graph")
    credential = ClientSecretCredential(
        directory.tenant,
        app.client_id,
        app.secret,
        authority=directory.authority,
        disable_instance_discovery=True,
        transport=AioHttpTransport(connection_verify=str(office.city.ca.bundle)),  # aiohttp reads SSL_CERT_FILE once, when it is imported
    )
    async with credential:
        scopes = [office.city.url.removesuffix("v1.0") + ".default"]
        transport = httpx.AsyncHTTPTransport(verify=office.city.ca.context())
        http = GraphClientFactory.create_with_default_middleware(client=httpx.AsyncClient(transport=transport, trust_env=False))
        adapter = GraphRequestAdapter(AzureIdentityAuthenticationProvider(credential, scopes=scopes, allowed_hosts=[]), client=http)
        adapter.base_url = office.city.url
        async with transport:  # which the SDK wraps in one that closing its client does not close
            yield GraphServiceClient(request_adapter=adapter)


def letter(office: Office, subject: str) -> Any:
    from msgraph.generated.models.body_type import BodyType
    from msgraph.generated.models.email_address import EmailAddress
    from msgraph.generated.models.file_attachment import FileAttachment
    from msgraph.generated.models.item_body import ItemBody
    from msgraph.generated.models.message import Message
    from msgraph.generated.models.recipient import Recipient

    return Message(
        subject=subject,
        body=ItemBody(content_type=BodyType.Html, content="<p>Hello</p>"),
        to_recipients=[Recipient(email_address=EmailAddress(address=office.ben))],
        attachments=[FileAttachment(odata_type="#microsoft.graph.fileAttachment", name="a.pdf", content_bytes=b"%PDF")],
    )


async def send(client: Any, office: Office, subject: str) -> None:
    from msgraph.generated.users.item.send_mail.send_mail_post_request_body import SendMailPostRequestBody

    body = SendMailPostRequestBody(message=letter(office, subject), save_to_sent_items=True)
    await client.users.by_user_id(office.anna).send_mail.post(body)


@old_parts
async def test_msgraph_sends_and_lists(office: Office, client: Any) -> None:
    """A mail with a file goes out; the inbox is listed with a filter, a mail is read with its files, its source and its changes."""
    from kiota_abstractions.base_request_configuration import RequestConfiguration
    from msgraph.generated.models.message import Message
    from msgraph.generated.users.item.mail_folders.item.messages.messages_request_builder import MessagesRequestBuilder

    await send(client, office, "From the SDK")
    await office.send("Another")
    asked = MessagesRequestBuilder.MessagesRequestBuilderGetQueryParameters(
        filter="isRead eq false and startswith(subject,'From')", select=["subject", "from"], top=5, count=True
    )
    user = client.users.by_user_id(office.ben)
    found = await user.mail_folders.by_mail_folder_id("inbox").messages.get(RequestConfiguration(query_parameters=asked))
    assert ([one.subject for one in found.value], found.odata_count) == (["From the SDK"], 1)
    one = user.messages.by_message_id(found.value[0].id)
    message = await one.get()
    assert (message.from_.email_address.address, message.is_read, message.body.content) == (office.anna, False, "<p>Hello</p>")
    assert [(file.name, file.content_bytes) for file in (await one.attachments.get()).value] == [("a.pdf", b"%PDF")]
    assert b"Subject: From the SDK" in await one.content.get()
    assert (await one.patch(Message(is_read=True))).is_read is True
    await one.delete()
    assert await office.inbox() == ["Another"]


@old_parts
async def test_msgraph_pages_and_walks(office: Office, client: Any) -> None:
    """nextLink and deltaLink are followed: all mails once, then what is new, then what is gone."""
    from kiota_abstractions.base_request_configuration import RequestConfiguration
    from msgraph.generated.users.item.mail_folders.item.messages.delta.delta_request_builder import DeltaRequestBuilder

    for number in range(5):
        await send(client, office, f"Mail {number}")
    delta = client.users.by_user_id(office.ben).mail_folders.by_mail_folder_id("inbox").messages.delta

    async def walk(page: Any) -> tuple[list[Any], str]:
        found = list(page.value)
        while page.odata_next_link:
            page = await delta.with_url(page.odata_next_link).get()
            found += page.value
        return found, page.odata_delta_link

    asked = DeltaRequestBuilder.DeltaRequestBuilderGetQueryParameters(top=2, select=["subject"])
    found, following = await walk(await delta.get(RequestConfiguration(query_parameters=asked)))
    assert [one.subject for one in found] == [f"Mail {number}" for number in reversed(range(5))]
    await send(client, office, "New")
    await client.users.by_user_id(office.ben).messages.by_message_id(found[0].id).delete()
    after, _ = await walk(await delta.with_url(following).get())
    assert [one.subject for one in after if not one.additional_data.get("@removed")] == ["New"]
    assert [one.id for one in after if one.additional_data.get("@removed")] == [found[0].id]


@old_parts
async def test_msgraph_hears_a_refusal(office: Office, client: Any) -> None:
    """What Graph refuses reaches the program as the library's own error, with Graph's status and code."""
    from msgraph.generated.models.o_data_errors.o_data_error import ODataError

    with pytest.raises(ODataError) as caught:
        await client.users.by_user_id("nobody@mailroom.example").messages.get()
    assert (caught.value.response_status_code, caught.value.error.code) == (404, "ErrorInvalidUser")
