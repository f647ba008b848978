"""What becomes of a storage call that fails: repeated or not, and how it is said. Azure's answers are played by a transport."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from mailroom.errors import MailroomError, StorageConflict, StorageDown, TooLarge
from mailroom.model.account import Storage
from mailroom.model.row import Change, Row, Ticket
from mailroom.storage.rest import RestStore

WHERE = Storage("https://a.blob.example", "https://a.queue.example", "https://a.table.example", "a", "c2VjcmV0LWtleQ==")

Step = httpx.Response | Exception
Operation = Callable[[RestStore], Awaitable[Any]]


def answer(status: int, code: str = "", **headers: str) -> httpx.Response:
    return httpx.Response(status, headers={"x-ms-error-code": code, **headers} if code else headers)


class Azure:
    """Answers with one step after the other, and remembers what it was asked."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.asked: list[str] = []
        self.slept: list[float] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path}")
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def run(self, operation: Operation) -> Any:
        async with httpx.AsyncClient(transport=httpx.MockTransport(self)) as client:
            return await operation(RestStore(WHERE, client, None, resource="", sleep=self.sleep))  # type: ignore[arg-type]  # a key needs none

    def failure(self, operation: Operation) -> MailroomError:
        with pytest.raises(MailroomError) as failed:
            asyncio.run(self.run(operation))
        assert "c2VjcmV0" not in str(failed.value)
        return failed.value


ROW = Row("p", "k", {"v": 1})
TWICE_AS_GOOD: dict[str, Operation] = {
    "get row": lambda store: store.get_row("t", "p", "k"),
    "query": lambda store: store.query("t", "p"),
    "upsert": lambda store: store.write("t", [Change("upsert", ROW)]),
    "merge any": lambda store: store.write("t", [Change("merge", ROW), Change("upsert", Row("p", "l"))]),
    "get blob": lambda store: store.get_blob("c", "b"),
    "put blob": lambda store: store.put_blob("c", "b", b"x"),
    "delete blob": lambda store: store.delete_blob("c", "b"),
    "old blobs": lambda store: store.old_blobs("c", 0.0),
    "old rows": lambda store: store.old_rows("t", 0.0),
    "delete ticket": lambda store: store.delete_ticket("q", Ticket("i", "r", b"", 1)),
    "queue length": lambda store: store.queue_length("q"),
}
ONLY_ONCE: dict[str, Operation] = {
    "insert": lambda store: store.write("t", [Change("insert", ROW)]),
    "merge by ETag": lambda store: store.write("t", [Change("merge", Row("p", "k", {}, "e"))]),
    "delete by ETag": lambda store: store.write("t", [Change("upsert", ROW), Change("delete", Row("p", "l", {}, "e"))]),
    "insert in company": lambda store: store.write("t", [Change("upsert", ROW), Change("insert", Row("p", "l"))]),
    "put blob if absent": lambda store: store.put_blob("c", "b", b"x", only_if_absent=True),
    "put ticket": lambda store: store.put_ticket("q", b"x"),
    "receive": lambda store: store.receive("q"),
}


@pytest.mark.parametrize("operation", TWICE_AS_GOOD.values(), ids=TWICE_AS_GOOD)
@pytest.mark.parametrize(
    "step", [httpx.ReadTimeout(""), httpx.ConnectError(""), answer(500, "OperationTimedOut"), answer(503, "ServerBusy")]
)
def test_what_is_as_good_twice_is_repeated_a_few_times(operation: Operation, step: Step) -> None:
    """Reads, unconditional writes and deletions are tried three times with growing pauses, then storage is down."""
    azure = Azure(step, step, step)
    assert azure.failure(operation).code == "storage_down"
    assert len(azure.asked) == 3
    assert 0.1 <= azure.slept[0] <= 0.3 <= azure.slept[1] + 0.05 <= 0.8


@pytest.mark.parametrize("operation", ONLY_ONCE.values(), ids=ONLY_ONCE)
@pytest.mark.parametrize(
    "step", [httpx.ReadTimeout(""), httpx.RemoteProtocolError(""), answer(500, "InternalError"), answer(503, "ServerBusy")]
)
def test_what_counts_once_is_never_repeated(operation: Operation, step: Step) -> None:
    """After a conditional write, an insert or a ticket whose answer was lost there is no second try."""
    azure = Azure(step)
    failed = azure.failure(operation)
    assert isinstance(failed, StorageDown)
    assert (failed.code, len(azure.asked), azure.slept) == ("storage_down", 1, [])


def test_a_call_recovers() -> None:
    """One answer in time is enough."""
    azure = Azure(httpx.ReadTimeout(""), answer(503), httpx.Response(200, content=b"body"))
    assert asyncio.run(azure.run(lambda store: store.get_blob("c", "b"))) == b"body"


def test_storage_may_ask_for_patience() -> None:
    """A short Retry-After is waited for; a long one is handed on, unslept."""
    azure = Azure(answer(503, "ServerBusy", **{"Retry-After": "3"}), httpx.Response(200, content=b"x"))
    asyncio.run(azure.run(TWICE_AS_GOOD["get blob"]))
    assert azure.slept == [3.0]
    azure = Azure(answer(503, "ServerBusy", **{"Retry-After": "60"}))
    assert azure.failure(TWICE_AS_GOOD["get blob"]).retry_after == 60.0
    assert azure.slept == []


def test_a_failure_names_operation_place_and_code() -> None:
    """What failed, where and why stand in the error; a timeout and a broken connection are told apart."""
    assert "put ticket on mail-outbox was answered with 500 InternalError." in str(
        Azure(answer(500, "InternalError")).failure(lambda store: store.put_ticket("mail-outbox", b"x"))
    )
    assert "in time" in str(Azure(httpx.ReadTimeout("")).failure(ONLY_ONCE["insert"]))
    assert "ConnectError" in str(Azure(httpx.ConnectError("")).failure(ONLY_ONCE["insert"]))


@pytest.mark.parametrize(("operation", "role"), [("insert", "Table"), ("put ticket", "Queue"), ("put blob if absent", "Blob")])
@pytest.mark.parametrize("status", [401, 403])
def test_a_locked_door_names_the_role(operation: str, role: str, status: int) -> None:
    """Whoever reads the error knows which role the identity lacks."""
    azure = Azure(answer(status, "AuthorizationPermissionMismatch"))
    failed = azure.failure(ONLY_ONCE[operation])
    assert failed.code == "storage_forbidden"
    assert f"Storage {role} Data Contributor" in failed.next_step


@pytest.mark.parametrize("step", [answer(413, "RequestBodyTooLarge"), answer(400, "EntityTooLarge"), answer(400, "PropertyValueTooLarge")])
def test_too_much_is_said_as_such(step: httpx.Response) -> None:
    """What storage cannot hold is the request's fault, not storage's."""
    failed = Azure(step).failure(ONLY_ONCE["insert"])
    assert isinstance(failed, TooLarge)
    assert failed.code == "storage_too_large"


@pytest.mark.parametrize(
    ("operation", "code", "creation"),
    [
        ("insert", "TableNotFound", "POST /Tables"),
        ("put ticket", "QueueNotFound", "PUT /q"),
        ("put blob if absent", "ContainerNotFound", "PUT /c"),
    ],
)
@pytest.mark.parametrize("made", [answer(201), answer(409, "AlreadyExists")], ids=["first", "second"])
def test_a_missing_place_is_made_once(operation: str, code: str, creation: str, made: httpx.Response) -> None:
    """On first use it is made, by us or by somebody faster, and the call goes again; when it is still missing that is an error."""
    azure = Azure(answer(404, code), made, answer(201, etag="e"))
    asyncio.run(azure.run(ONLY_ONCE[operation]))
    assert azure.asked[1] == creation
    assert azure.asked[0] == azure.asked[2]
    azure = Azure(answer(404, code), made, answer(404, code))
    assert azure.failure(ONLY_ONCE[operation]).code == "storage_down"


def test_a_place_that_is_going_is_no_place() -> None:
    """A container that is being deleted cannot be made: storage is down until it is gone."""
    azure = Azure(answer(404, "ContainerNotFound"), answer(409, "ContainerBeingDeleted"))
    assert "ContainerBeingDeleted" in str(azure.failure(ONLY_ONCE["put blob if absent"]))


def test_half_an_answer_to_a_transaction_is_none() -> None:
    """Fewer answers than changes, and no error among them: what was written is unknown."""
    azure = Azure(httpx.Response(202, content=b"--b\r\n\r\nHTTP/1.1 204 No Content\r\nETag: e\r\n\r\n--b--"))
    assert azure.failure(ONLY_ONCE["insert in company"]).code == "storage_down"


def test_a_refused_transaction_says_which_change_lost() -> None:
    """As Azure writes it: one answer for all, whose message starts with the number of the change."""
    message = "1:The update condition specified in the request was not satisfied.\\nRequestId:x"
    body = (
        "--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\nContent-Type: application/http\r\n\r\n"
        "HTTP/1.1 412 Precondition Failed\r\nContent-Type: application/json\r\n\r\n"
        '{"odata.error":{"code":"UpdateConditionNotSatisfied","message":{"lang":"en-US","value":"' + message + '"}}}\r\n--c--\r\n--b--\r\n'
    ).encode()
    failed = Azure(httpx.Response(202, content=body)).failure(ONLY_ONCE["delete by ETag"])
    assert isinstance(failed, StorageConflict)
    assert "delete on t lost" in str(failed)


@pytest.mark.parametrize("operation", ["get row", "query", "merge any", "old blobs"])
def test_an_answer_that_is_none_is_storage_down(operation: str) -> None:
    """A page of somebody else's with status 200 is no answer of storage's."""
    azure = Azure(httpx.Response(200, content=b"<html><p>Sign in"))
    assert azure.failure(TWICE_AS_GOOD[operation]).code == "storage_down"


def test_a_query_reads_on_without_a_row_key() -> None:
    """Azure may name only the partition to go on from, and may give pages without rows."""
    first = httpx.Response(200, headers={"x-ms-continuation-NextPartitionKey": "1!4!cA--"}, json={"value": []})
    row = {"PartitionKey": "p", "RowKey": "k", "Timestamp": "2026-11-24T19:35:00.4599542Z"}
    azure = Azure(first, httpx.Response(200, json={"value": [row]}))
    [found] = asyncio.run(azure.run(TWICE_AS_GOOD["query"]))
    assert found.etag == "W/\"datetime'2026-11-24T19%3A35%3A00.4599542Z'\""


def test_messages_of_others_are_plain_text() -> None:
    """A queue message that is no base64 comes as the text it is."""
    body = (
        "<QueueMessagesList><QueueMessage><MessageId>1</MessageId><PopReceipt>r</PopReceipt><DequeueCount>3</DequeueCount>"
        '<MessageText>{"to": "ä &lt;a@b&gt;"}</MessageText></QueueMessage></QueueMessagesList>'
    )
    [ticket] = asyncio.run(Azure(httpx.Response(200, content=body.encode())).run(ONLY_ONCE["receive"]))
    assert ticket == Ticket("1", "r", '{"to": "ä <a@b>"}'.encode(), 3, bare=True)


def test_blobs_are_listed_over_pages() -> None:
    """A listing goes on at its marker until enough is found, reading dates as the service writes them."""

    def page(name: str, day: int, marker: str) -> httpx.Response:
        date = f"<Last-Modified>Tue, {day:02} Nov 2026 10:00:00 GMT</Last-Modified>"
        blob = f"<Blobs><Blob><Name>{name}</Name><Properties>{date}</Properties></Blob></Blobs>"
        return httpx.Response(200, content=f"<EnumerationResults>{blob}<NextMarker>{marker}</NextMarker></EnumerationResults>".encode())

    azure = Azure(page("a&amp;b", 3, "m 1"), page("young", 24, "m2"), page("old", 10, ""))
    assert asyncio.run(azure.run(lambda store: store.old_blobs("c", 1795132800.0))) == ["a&b", "old"]
