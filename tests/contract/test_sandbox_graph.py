"""The sandbox's Graph at its door: tokens, permissions, the contract of bodies, and what is refused with which words."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from sandbox.directory import GRAPH, STORAGE, App
from sandbox.graph import ids
from tests.contract.sandbox_graph import City, Office, city, person, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"Content-Type": "application/json"}
UNKNOWN_ID = base64.urlsafe_b64encode(b"\x00" * 111).decode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[City]:
    async with city(tmp_path_factory.mktemp("city")) as served:
        yield served


@pytest.fixture
def office(town: City) -> Office:
    return town.office()


CALLS = [
    ("POST", "sendMail", "Mail.Send"),
    ("GET", "messages", "Mail.Read"),
    ("POST", "messages", "Mail.ReadWrite"),
    ("GET", "messages/$count", "Mail.Read"),
    ("GET", "mailFolders", "Mail.Read"),
    ("POST", "mailFolders", "Mail.ReadWrite"),
    ("GET", "mailFolders/inbox", "Mail.Read"),
    ("GET", "mailFolders/inbox/childFolders", "Mail.Read"),
    ("GET", "mailFolders/inbox/messages", "Mail.Read"),
    ("GET", "mailFolders/inbox/messages/delta", "Mail.Read"),
    ("GET", "messages/{id}", "Mail.Read"),
    ("PATCH", "messages/{id}", "Mail.ReadWrite"),
    ("DELETE", "messages/{id}", "Mail.ReadWrite"),
    ("GET", "messages/{id}/$value", "Mail.Read"),
    ("PUT", "messages/{id}/$value", "Mail.ReadWrite"),
    ("POST", "messages/{id}/move", "Mail.ReadWrite"),
    ("POST", "messages/{id}/copy", "Mail.ReadWrite"),
    ("POST", "messages/{id}/permanentDelete", "Mail.ReadWrite"),
    ("POST", "messages/{id}/send", "Mail.Send"),
    ("POST", "messages/{id}/reply", "Mail.Send"),
    ("POST", "messages/{id}/replyAll", "Mail.Send"),
    ("POST", "messages/{id}/forward", "Mail.Send"),
    ("POST", "messages/{id}/createReply", "Mail.ReadWrite"),
    ("POST", "messages/{id}/createForward", "Mail.ReadWrite"),
    ("GET", "messages/{id}/attachments", "Mail.Read"),
    ("POST", "messages/{id}/attachments", "Mail.ReadWrite"),
    ("POST", "messages/{id}/attachments/createUploadSession", "Mail.ReadWrite"),
    ("GET", "mailFolders/drafts/messages/{id}/attachments/x", "Mail.Read"),
    ("DELETE", "messages/{id}/attachments/x", "Mail.ReadWrite"),
]


@pytest.mark.parametrize(("method", "path", "role"), CALLS)
async def test_every_call_wants_its_permission(office: Office, method: str, path: str, role: str) -> None:
    """Without a token 401, with every other role 403, and with the right one an answer of the call's own."""
    path = path.format(id=(await office.draft(subject="A draft"))["id"])
    wrong = {"Mail.Send", "Mail.ReadWrite", "Mail.Read"} - {role, *(["Mail.ReadWrite"] if role == "Mail.Read" else [])}
    assert refused(await office.ask(method, path, token="")) == (401, "InvalidAuthenticationToken")
    assert refused(await office.ask(method, path, token=office.token(*sorted(wrong)))) == (403, "ErrorAccessDenied")
    answer = await office.ask(method, path, token=office.token(role), json={} if method in ("POST", "PATCH") else None)
    assert answer.status_code not in (401, 403, 405), answer.text


async def test_what_is_wrong_with_a_token(office: Office) -> None:
    """None, garbage, another audience, another signer, an ended one, a revoked one: each is 401 and says so, with a challenge."""
    directory = office.city.directory
    client_id = directory.app("graph").client_id
    head, claims, signature = office.token().split(".")
    changed = json.loads(base64.urlsafe_b64decode(claims + "==")) | {"roles": ["Mail.ReadWrite"]}
    revoked = directory.issue(client_id, GRAPH)
    directory.revoke(revoked)
    tokens = {
        "": "empty",
        "garbage": "not well formed",
        "a.b.c": "validation failure",
        directory.issue(client_id, STORAGE): "Invalid audience",
        f"{head}.{base64.urlsafe_b64encode(json.dumps(changed).encode()).decode().rstrip('=')}.{signature}": "Signature",
        directory.issue(client_id, GRAPH, lifetime=-1): "expired",
        revoked: "revoked",
    }
    for token, reason in tokens.items():
        answer = await office.ask("GET", "messages", token=token)
        assert refused(answer) == (401, "InvalidAuthenticationToken")
        assert reason in answer.json()["error"]["message"]
        assert answer.headers["www-authenticate"].startswith('Bearer realm=""')
        assert refused(await office.ask("POST", "/$batch", token=token, json={"requests": []})) == (401, "InvalidAuthenticationToken")


@pytest.mark.parametrize(
    ("scope", "name", "reads", "sends"),
    [
        ("own", "Application Mail.Read", True, False),
        ("own", "Mail.Send", False, True),
        ("own", "Application Mail Full Access", True, True),
        ("*", "Application Mail Full Access", True, True),
        ("other", "Application Mail Full Access", False, False),
    ],
)
async def test_a_grant_that_no_token_shows(office: Office, scope: str, name: str, reads: bool, sends: bool) -> None:
    """What Exchange grants for a mailbox counts there although the token holds no role at all."""
    where = {"own": office.anna.upper(), "other": office.ben}.get(scope, scope)
    app = office.city.directory.register(App("scoped", exchange={where: {name}}))
    token = office.city.directory.issue(app.client_id, GRAPH)
    assert (await office.ask("GET", "messages", token=token)).status_code == (200 if reads else 403)
    body = {"message": {"toRecipients": [person(office.ben)]}}
    assert (await office.ask("POST", "sendMail", token=token, json=body)).status_code == (202 if sends else 403)


async def test_grants_add_up(office: Office) -> None:
    """A role in the token opens every mailbox, whatever scope Exchange has: the consent that was left in place."""
    app = App("both", app_roles={GRAPH: ["Mail.Send"]}, exchange={office.anna: {"Application Mail.Read", "Application Mail.Send"}})
    token = office.city.directory.issue(office.city.directory.register(app).client_id, GRAPH)
    body = {"message": {"toRecipients": [person(office.ben)]}}
    assert (await office.ask("POST", "sendMail", user=office.ben, token=token, json=body)).status_code == 202
    assert (await office.ask("GET", "messages", token=token)).status_code == 200
    assert refused(await office.ask("GET", "messages", user=office.ben, token=token)) == (403, "ErrorAccessDenied")


@pytest.mark.parametrize("role", ["Mail.ReadBasic", "Mail.ReadBasic.All"])
async def test_the_basic_permission_hides_what_a_mail_says(office: Office, role: str) -> None:
    """Subjects and people are shown; bodies, files and extended properties are neither shown nor answered for, delta included."""
    got = await office.arrive(body={"contentType": "text", "content": "secret"})
    token, property_ = office.token(role), "singleValueExtendedProperties($filter=id eq 'String 0x1000')"
    shown = await office.get(f"messages/{got['id']}", user=office.ben, token=token)
    assert shown["subject"] == "Hello"
    assert "secret" not in json.dumps(shown)
    for path in (
        f"messages/{got['id']}/$value",
        f"messages/{got['id']}/attachments",
        f"messages/{got['id']}?$expand=attachments",
        f"messages?$expand={property_}",
        "messages?$filter=contains(body/content,'secret')",
        "messages/$count?$filter=startswith(bodyPreview,'s')",
        "mailFolders/inbox/messages/delta?$expand=attachments",
        f"mailFolders/inbox/messages/delta?$expand={property_}",
    ):
        assert refused(await office.ask("GET", path, user=office.ben, token=token)) == (403, "ErrorAccessDenied"), path


async def test_who_is_not_there(office: Office) -> None:
    """An unknown mailbox, an unknown mail, an id that can't be one, a folder of another name: four different answers."""
    cases = {
        ("messages", "nobody@mailroom.example"): (404, "ErrorInvalidUser"),
        (f"messages/{UNKNOWN_ID}", ""): (404, "ErrorItemNotFound"),
        (f"messages/{UNKNOWN_ID}/$value", ""): (404, "ErrorItemNotFound"),
        ("messages/not an id", ""): (400, "ErrorInvalidIdMalformed"),
        ("mailFolders/attic/messages", ""): (404, "ErrorItemNotFound"),
        ("mailFolders/a b/messages", ""): (400, "ErrorInvalidIdMalformed"),
    }
    for (path, user), expected in cases.items():
        assert refused(await office.ask("GET", path, user=user)) == expected, path
    assert "nobody@mailroom.example" in (await office.ask("GET", "messages", user="nobody@mailroom.example")).text


async def test_a_mailbox_has_several_names(office: Office) -> None:
    """An address in any case, the directory's object id, and OData's form with a key are one mailbox."""
    made = await office.draft(subject="One")
    for path in (
        f"/users/{office.anna.upper()}/messages",
        f"/users/{ids.object_id(office.anna)}/messages",
        f"/users('{quote(office.anna)}')/mailFolders('Drafts')/messages",
        f"/Users/{office.anna}/MailFolders/Drafts/Messages",
    ):
        assert [one["id"] for one in await office.values(path)] == [made["id"]], path
    assert (await office.get(f"messages('{quote(made['id'])}')"))["subject"] == "One"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/me/messages", 400),
        ("GET", "/groups/x/messages", 400),
        ("GET", "letters", 400),
        ("GET", "messages/delta", 404),
        ("DELETE", "sendMail", 405),
        ("POST", "messages/$count", 405),
        ("GET", "messages?$nonsense=1", 400),
        ("GET", "messages?$top=1&top=2", 400),
    ],
)
async def test_what_graph_does_not_have(office: Office, method: str, path: str, status: int) -> None:
    """Paths, methods and options of nothing are refused; a delta of the whole mailbox is none of a folder."""
    assert refused(await office.ask(method, path))[0] == status


MESSAGE: list[tuple[dict[str, Any], str]] = [
    ({"subjekt": "x"}, "The property 'subjekt' does not exist on type 'microsoft.graph.message'"),
    ({"Subject": "x"}, "The property 'Subject' does not exist"),
    ({"body": {"text": "x"}}, "The property 'text' does not exist on type 'microsoft.graph.itemBody'"),
    ({"toRecipients": [{"address": "x"}]}, "The property 'address' does not exist on type 'microsoft.graph.recipient'"),
    ({"toRecipients": None}, "'toRecipients'"),
    ({"toRecipients": [None]}, "'toRecipients'"),
    ({"categories": [None]}, "'categories'"),
    ({"singleValueExtendedProperties": [None]}, "'singleValueExtendedProperties'"),
    ({"singleValueExtendedProperties": [{"id": None, "value": "x"}]}, "'id'"),
    ({"toRecipients": "ben"}, "'toRecipients'"),
    ({"subject": 7}, "'subject'"),
    ({"isRead": "true"}, "'isRead'"),
    ({"isRead": 1}, "'isRead'"),
    ({"importance": "urgent"}, "Requested value 'urgent' was not found in the enumeration 'microsoft.graph.importance'"),
    ({"flag": {"flagStatus": "flagged", "dueDateTime": {"dateTime": None}}}, "'dateTime'"),
    ({"attachments": [{"name": "x"}]}, "microsoft.graph.attachment"),
    ({"attachments": [{"@odata.type": "#microsoft.graph.message", "name": "x"}]}, "microsoft.graph.message"),
    ({"attachments": [{"@odata.type": "#microsoft.graph.fileAttachment", "name": "x", "contentBytes": "no!"}]}, "Edm.Binary"),
    ({"attachments": [{"@odata.type": "#microsoft.graph.fileAttachment", "name": "x", "size": 1 << 31}]}, "Edm.Int32"),
    ({"attachments": [{"@odata.type": "#microsoft.graph.fileAttachment", "name": "x", "size": True}]}, "'size'"),
]


@pytest.mark.parametrize(("message", "said"), MESSAGE)
async def test_the_contract_of_a_message(office: Office, message: dict[str, Any], said: str) -> None:
    """A property that the contract does not know, or a value that is none of its type, is refused by name, and nothing is kept."""
    for path, body in (("sendMail", {"message": message}), ("messages", message)):
        answer = await office.ask("POST", path, json=body)
        assert refused(answer) == (400, "RequestBodyRead")
        assert said in answer.json()["error"]["message"]
    assert await office.values("messages") == []


async def test_parameters_are_named_in_any_case(office: Office) -> None:
    """Message, message and MESSAGE are the action's parameter; an unknown one is named; annotations pass."""
    message = {"@odata.type": "#microsoft.graph.message", "subject": "Hi", "toRecipients": [person(office.ben)]}
    for message_name, keep in (("Message", "SaveToSentItems"), ("message", "saveToSentItems"), ("MESSAGE", "SAVETOSENTITEMS")):
        assert (await office.ask("POST", "sendMail", json={message_name: message, keep: False})).status_code == 202
    assert await office.inbox() == ["Hi"] * 3
    assert await office.values("messages") == []
    answer = await office.ask("POST", "sendMail", json={"message": message, "save": True})
    assert refused(answer) == (400, "RequestBodyRead")
    assert "parameter 'save'" in answer.text
    for body in ({}, {"message": None}):
        assert refused(await office.ask("POST", "sendMail", json=body))[0] == 400


@pytest.mark.parametrize(
    ("content", "headers", "code"),
    [
        (b"{", JSON, "BadRequest"),
        (b"\xff\xfe{}", JSON, "BadRequest"),
        (b'{"message": {"subject": "\\ud83d"}}', JSON, "BadRequest"),
        (b"[" * 200_000, JSON, "BadRequest"),
        (b"[]", JSON, "RequestBodyRead"),
        (b"7", JSON, "RequestBodyRead"),
        (b"{}", {}, "BadRequest"),
        (b"{}", {"Content-Type": "text/xml"}, "RequestBodyRead"),
        (b"no base64!", {"Content-Type": "text/plain"}, "ErrorMimeContentInvalidBase64String"),
        (b"YQ", {"Content-Type": "text/plain"}, "ErrorMimeContentInvalidBase64String"),
    ],
)
async def test_bodies_that_are_none(office: Office, content: bytes, headers: dict[str, str], code: str) -> None:
    """Half JSON, other charsets, half a character, a tower of brackets, no Content-Type, no base64: 400 and nothing worse."""
    assert refused(await office.ask("POST", "sendMail", content=content, headers=headers)) == (400, code)


async def test_a_request_has_four_megabytes(office: Office) -> None:
    """One byte more is 413, alone and around a batch; the limit itself passes."""
    frame = b'{"message": {"toRecipients": [{"emailAddress": {"address": "%s"}}], "body": {"content": "%%s"}}}' % office.ben.encode()
    room = 4 * 1024 * 1024 - len(frame % b"")
    assert (await office.ask("POST", "sendMail", content=frame % (b"x" * room), headers=JSON)).status_code == 202
    for path in ("sendMail", "/$batch"):
        answer = await office.ask("POST", path, content=frame % (b"x" * (room + 1)), headers=JSON)
        assert refused(answer) == (413, "BadRequest")
        assert "4MB" in answer.text


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"toRecipients": []}, 400, "ErrorInvalidRecipients"),
    ({"toRecipients": [person("ben")]}, 400, "ErrorInvalidRecipients"),
    ({"toRecipients": [person("ben@mailroom..example")]}, 400, "ErrorInvalidRecipients"),
    ({"toRecipients": [person("ben@x.example\r\nBcc: eve@x.example")]}, 400, "ErrorInvalidRecipients"),
    ({"ccRecipients": [{"emailAddress": None}]}, 400, "ErrorInvalidRecipients"),
    ({"toRecipients": [person(f"p{n}@x.example") for n in range(501)]}, 400, "ErrorExceededMaxRecipientLimit"),
    ({"from": person("eve@mailroom.example")}, 403, "ErrorSendAsDenied"),
    ({"sender": person("eve@mailroom.example")}, 403, "ErrorSendAsDenied"),
    ({"isDraft": False}, 400, "ErrorInvalidPropertySet"),
    ({"internetMessageHeaders": []}, 400, "InvalidInternetMessageHeaderCollection"),
    ({"internetMessageHeaders": [{"name": f"x-{n}", "value": "v"} for n in range(6)]}, 400, "InvalidInternetMessageHeaderCollection"),
    ({"internetMessageHeaders": [{"name": "In-Reply-To", "value": "<a@b>"}]}, 400, "InvalidInternetMessageHeader"),
    ({"internetMessageHeaders": [{"name": "x-a", "value": "v\r\nBcc: eve@x.example"}]}, 400, "InvalidInternetMessageHeader"),
    ({"singleValueExtendedProperties": [{"id": "Name Stamp", "value": "x"}]}, 400, "ErrorInvalidExtendedProperty"),
    ({"attachments": [{"@odata.type": "#microsoft.graph.fileAttachment", "name": "x"}]}, 400, "ErrorRequiredPropertyMissing"),
    ({"attachments": [{"@odata.type": "#microsoft.graph.itemAttachment", "name": "x"}]}, 400, "ErrorRequiredPropertyMissing"),
]


@pytest.mark.parametrize(("message", "status", "code"), REFUSED)
async def test_what_is_refused_leaves_nothing_behind(office: Office, message: dict[str, Any], status: int, code: str) -> None:
    """Bad recipients, senders, headers and properties: the code that Exchange gives, no mail sent, no draft left, nothing counted."""
    assert refused(await office.send(**message)) == (status, code)
    assert await office.values("messages") == []
    assert await office.inbox() == []
    assert not [row for row in office.city.graph.office.sent.values() if row.mailbox == office.anna]
    delta = await office.get("mailFolders/drafts/messages/delta")
    assert delta["value"] == []


async def test_five_hundred_people_are_no_more_than_allowed(office: Office) -> None:
    """The limit itself passes."""
    assert (await office.send(toRecipients=[person(f"p{n}@x.example") for n in range(500)])).status_code == 202


async def test_answers_name_the_request(office: Office) -> None:
    """A request id on every answer, the client's own where it gave one, and in a refusal too."""
    answer = await office.ask("GET", "messages", headers={"client-request-id": "mine"})
    assert answer.headers["client-request-id"] == "mine"
    assert answer.headers["request-id"]
    refusal = await office.ask("GET", f"messages/{UNKNOWN_ID}", headers={"client-request-id": "mine"})
    assert refusal.json()["error"]["innerError"]["client-request-id"] == "mine"
    assert refusal.headers["request-id"] == refusal.json()["error"]["innerError"]["request-id"]
