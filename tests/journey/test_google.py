"""An account at Google, from HTTP to the recipient's inbox and from a stranger's mail to our queue; with a key and without one."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from sandbox.directory import TOKEN_EXCHANGE
from sandbox.google.workspace import Pool
from sandbox.services import ORDERS, ROBOT
from tests.journey.own_town import Functions, OwnTown, new_subject, opened, own_town
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

KEYLESS = "news@northwind.example"
PROVIDER = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/azure/providers/entra"
MORE = f"""
[auth.keyless]
grant = "workload_identity"
service_account = "{ROBOT}"
workload_provider = "{PROVIDER}"

[accounts."{KEYLESS}"]
provider = "gmail"
address = "{KEYLESS}"
auth = "keyless"
permissions = ["gmail.send"]
"""


@dataclass(slots=True)
class Place:
    town: OwnTown
    functions: Functions
    events: list[dict[str, Any]] = field(default_factory=list)

    async def send(self, subject: str, account: str = ORDERS, **more: Any) -> dict[str, Any]:
        mail = {"id": subject.replace(" ", "-"), "account": account, "to": [self.town.billing], "subject": subject, "text": "Hello"}
        answer = await self.functions.send(**mail, **more)
        assert answer.status_code == 202, answer.text
        return await self.functions.settled(mail["id"])

    async def in_billings_inbox(self, subject: str) -> list[str]:
        query = {"$filter": f"subject eq '{subject}'"}
        answer = await self.town.graph("GET", f"/users/{self.town.billing}/mailFolders/inbox/messages", params=query)
        return [one["from"]["emailAddress"]["address"] for one in answer["value"]]

    async def of(self, subject: str) -> list[dict[str, Any]]:
        self.events += map(opened, await self.town.take("mail-received"))
        return [event for event in self.events if event["data"]["subject"] == subject]

    async def arrives(self, subject: str) -> dict[str, Any]:
        """A mail to the Google account, from Graph's billing; the event that came of it."""
        mail = {"message": {"subject": subject, "body": {"content": "Hi"}, "toRecipients": [{"emailAddress": {"address": ORDERS}}]}}
        head = self.town.bearer("graph", "https://graph.microsoft.com")
        where = f"{self.town.services.graph}/users/{self.town.billing}/sendMail"
        (await self.town.http.post(where, headers=head, json=mail)).raise_for_status()
        found: list[dict[str, Any]] = await until(lambda: self.of(subject))
        return found[0]


def trust_the_identity(town: OwnTown) -> None:
    """What an administrator does at Google for the way without a key."""
    directory, workspace = town.services.directory, town.services.google.workspace
    resource = directory.resource(TOKEN_EXCHANGE)
    assert resource
    pool = Pool(PROVIDER, directory.issuer(2), resource.audience, directory.keys.verify)
    workspace.mailboxes.add(KEYLESS)
    workspace.pools[PROVIDER] = pool
    workspace.accounts[ROBOT].signers.add(pool.principal(directory.app("mailroom-identity").object_id))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    async with own_town(tmp_path_factory.mktemp("google")) as town:
        trust_the_identity(town)
        async with town.functions(more=MORE) as functions:
            yield Place(town, functions)


@pytest.fixture(autouse=True)
def _healed(place: Place) -> None:
    place.town.services.faults.clear()


async def test_a_mail_from_google_arrives_at_graph(place: Place) -> None:
    """Sent over HTTP by a service account for its mailbox: accepted once, and in the recipient's inbox with the right sender."""
    subject = new_subject()
    mail = await place.send(subject)
    assert (mail["status"], mail["path"]) == ("sent", "messages.send")
    assert await place.in_billings_inbox(subject) == [ORDERS]
    assert await place.town.copies(subject) == [1]


async def test_a_large_mail_goes_by_upload(place: Place) -> None:
    """Four megabytes in one request to us, in one upload to Gmail, and whole in the recipient's inbox."""
    subject, content = new_subject(), bytes(range(256)) * 16_384
    mail = await place.send(subject, attachments=[{"name": "all.bin", "content": base64.b64encode(content).decode()}])
    assert (mail["status"], mail["path"]) == ("sent", "upload")
    query = {"$filter": f"subject eq '{subject}'", "$expand": "attachments"}
    answer = await place.town.graph("GET", f"/users/{place.town.billing}/mailFolders/inbox/messages", params=query)
    [file] = answer["value"][0]["attachments"]
    assert base64.b64decode(file["contentBytes"]) == content


async def test_a_mail_without_any_key(place: Place) -> None:
    """The managed identity, federated: another mailbox of the same domain sends, and no vault was asked for a key."""
    subject = new_subject()
    assert (await place.send(subject, KEYLESS))["status"] == "sent"
    assert await place.in_billings_inbox(subject) == [KEYLESS]


@pytest.mark.parametrize("answer", ["504", "cut", "429"])
async def test_a_lost_answer_is_no_second_mail(place: Place, answer: str) -> None:
    """Gmail took it, its answer never came, and it gave the mail another Message-ID: it is found by our stamp all the same."""
    subject = new_subject()
    fault = {"service": "google", "path": "messages/send", "answer": answer, "after_accepting": True, "times": 1}
    place.town.services.faults.add(fault)
    mail = await place.send(subject)
    assert (mail["status"], mail["path"]) == ("sent", "found")
    assert await place.town.copies(subject) == [1]


async def test_a_revoked_token_is_replaced(place: Place) -> None:
    """Every token is refused from now on: the next mail goes with a new one, once."""
    await place.send(new_subject())
    workspace = place.town.services.google.workspace
    before = len(workspace.sign_ins)
    assert workspace.revoke_all()
    subject = new_subject()
    assert (await place.send(subject))["status"] == "sent"
    assert await place.town.copies(subject) == [1]
    assert len(workspace.sign_ins) > before


async def test_a_mail_to_google_is_told_of(place: Place) -> None:
    """From Graph's mailbox to Google's: stored as it came, and one event."""
    subject = new_subject()
    event = await place.arrives(subject)
    assert event["data"]["from"] == place.town.billing
    assert b"Hi" in await place.town.blob(f"mail-inbox/{event['data']['eml']}")
    assert len(await place.of(subject)) == 1


async def test_a_forgotten_history_announces_nothing_twice(place: Place) -> None:
    """Google has forgotten where we were: the mailbox is walked anew, what is new is told of, what was told is not."""
    first, second = new_subject(), new_subject()
    await place.arrives(first)
    place.town.services.google.office.mailbox(ORDERS).forget()
    await place.arrives(second)
    await place.arrives(new_subject())
    assert [len(await place.of(subject)) for subject in (first, second)] == [1, 1]


async def test_nothing_of_the_key_is_in_the_log(place: Place) -> None:
    """What the functions said holds no part of the key, of an assertion or of a token."""
    said = (place.town.folder / "functions.log").read_text()
    assert "token.fetched" in said
    assert "PRIVATE KEY" not in said
    assert "ya29." not in said
    assert "eyJhbGciOiJSUzI1NiI" not in said
