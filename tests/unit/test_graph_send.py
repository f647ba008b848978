"""Sending through Graph: what goes on the wire, and what each answer is taken to mean."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from mailroom.errors import DeliveryInDoubt, NotSent, Refused, Throttled, TokenRejected, TooLarge
from mailroom.model.account import Account, Cloud, Profile
from mailroom.model.message import Address, Attachment, Message, Outgoing, Receipt
from mailroom.model.token import Token
from mailroom.providers.graph import Graph, build, scope
from tests.fakes import FakeParts

CLOUD = Cloud("https://login.example", "https://graph.example/v1.0", "https://graph.example/.default", "vault", "storage")
ACCOUNT = Account("billing", "graph", "o'neil@x.example", Profile("graph", "client_credentials", "tenant", "client", CLOUD))
TOKEN = Token("secret", 2e9)
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Wire:
    """Keeps what was sent; answers what it is told, the last answer for ever."""

    def __init__(self, *answers: httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.graph = Graph(httpx.AsyncClient(transport=httpx.MockTransport(self._answer)), now=lambda: NOW, new_id=lambda: "id-1")

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else answer(request)

    def body(self, number: int = 0) -> Any:
        return json.loads(self.requests[number].content)


def mail(stamp: str = "s1", **fields: Any) -> Outgoing:
    return Outgoing(stamp, Message("billing", **{"to": (Address("ann@example.com"),), "subject": "Hi", "text": "Hello"} | fields))


def error(status: int, code: str = "", **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"code": code, "message": f"About {code}"}}, headers=headers)


def inner(number: int, status: int = 202, headers: dict[str, str] | None = None, body: Any = None) -> dict[str, Any]:
    return {"id": str(number), "status": status, "headers": headers or {}, **({"body": body} if body else {})}


async def test_one_mail_is_one_send_mail() -> None:
    """A single mail goes to sendMail as JSON, with its stamp, without a single empty array, and its copy kept."""
    wire = Wire(httpx.Response(202, headers={"request-id": "r1"}))
    assert await wire.graph.send(ACCOUNT, [mail()], TOKEN) == [Receipt("sendMail", None, "r1", "id-1", why="it fits one request")]
    [request] = wire.requests
    assert str(request.url) == "https://graph.example/v1.0/users/o%27neil@x.example/sendMail"
    assert request.headers["Authorization"] == "Bearer secret"
    assert request.headers["client-request-id"] == "id-1"
    assert wire.body() == {
        "message": {
            "subject": "Hi",
            "body": {"contentType": "text", "content": "Hello"},
            "toRecipients": [{"emailAddress": {"address": "ann@example.com"}}],
            "singleValueExtendedProperties": [{"id": "String {8d1f6f0c-6f0a-4c39-9e57-6d6b1a3c52e1} Name MailroomStamp", "value": "s1"}],
        },
        "saveToSentItems": True,
    }


async def test_every_field_of_a_mail_goes_along() -> None:
    """Names, copies, reply-to, importance, x- headers, attachments and inline images reach Graph under its own names."""
    wire = Wire(httpx.Response(202))
    files = (Attachment("a.pdf", b"%PDF", "application/pdf"), Attachment("l.png", b"PNG", "image/png", "logo"))
    fields: dict[str, Any] = {
        "cc": (Address("c@x.y", "Çé"),),
        "bcc": (Address("b@x.y"),),
        "reply_to": (Address("r@x.y"),),
        "attachments": files,
    }
    await wire.graph.send(ACCOUNT, [mail(html="<p>", importance="high", headers={"x-a": "1"}, **fields)], TOKEN)
    sent = wire.body()["message"]
    assert sent["body"] == {"contentType": "html", "content": "<p>"}
    assert sent["ccRecipients"] == [{"emailAddress": {"address": "c@x.y", "name": "Çé"}}]
    assert sent["bccRecipients"][0]["emailAddress"]["address"] == "b@x.y"
    assert sent["replyTo"][0]["emailAddress"]["address"] == "r@x.y"
    assert (sent["importance"], sent["internetMessageHeaders"]) == ("high", [{"name": "x-a", "value": "1"}])
    kind = "#microsoft.graph.fileAttachment"
    assert sent["attachments"] == [
        {"@odata.type": kind, "name": "a.pdf", "contentType": "application/pdf", "contentBytes": base64.b64encode(b"%PDF").decode()},
        {"@odata.type": kind, "name": "l.png", "contentType": "image/png", "contentBytes": "UE5H", "isInline": True, "contentId": "logo"},
    ]


async def test_the_caller_hears_that_html_won() -> None:
    """Where both were given, Exchange derives the text from html, and the receipt says so."""
    [receipt] = await Wire(httpx.Response(202)).graph.send(ACCOUNT, [mail(html="<p>")], TOKEN)
    assert isinstance(receipt, Receipt)
    assert receipt.note
    assert "derive" in receipt.note


async def test_several_mails_are_one_unordered_batch() -> None:
    """Two to twenty mails share one request; each gets the answer that carries its id, in whatever order they come."""
    answers = [inner(1, 400, body={"error": {"code": "ErrorInvalidRecipients", "message": "No."}}), inner(0, headers={"request-id": "r0"})]
    wire = Wire(httpx.Response(200, json={"responses": answers}))
    first, second = await wire.graph.send(ACCOUNT, [mail("s1"), mail("s2")], TOKEN)
    assert first == Receipt("batch", None, "r0", "id-1", why="it fits one request")
    assert isinstance(second, Refused)
    assert second.code == "recipient_invalid"
    requests = wire.body()["requests"]
    assert str(wire.requests[0].url).endswith("/v1.0/$batch")
    assert [r["id"] for r in requests] == ["0", "1"]
    assert all(r["url"] == "/users/o'neil@x.example/sendMail".replace("'", "%27") and "dependsOn" not in r for r in requests)
    assert [r["body"]["message"]["singleValueExtendedProperties"][0]["value"] for r in requests] == ["s1", "s2"]


async def test_a_batch_holds_twenty_and_less_than_four_megabytes() -> None:
    """Mails that do not fit one request go in the next, one request after the other."""

    def all_taken(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("sendMail"):
            return httpx.Response(202)
        return httpx.Response(200, json={"responses": [inner(int(r["id"])) for r in json.loads(request.content)["requests"]]})

    wire = Wire(all_taken)
    big = (Attachment("a", bytes(1_400_000)),)
    results = await wire.graph.send(ACCOUNT, [mail(f"s{n}", attachments=big) for n in range(3)] + [mail(f"t{n}") for n in range(21)], TOKEN)
    assert all(isinstance(result, Receipt) for result in results)
    assert all(len(request.content) <= 4 * 1024 * 1024 for request in wire.requests)
    assert [len(wire.body(n)["requests"]) for n in range(len(wire.requests) - 1)] == [2, 20]
    assert len(wire.requests) == 3


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"in_reply_to": "<a@b>"}, "JSON has no word for In-Reply-To"),
        ({"mime": b"From: a@b\r\nTo: c@d\r\n\r\nHi\r\n"}, "it came as MIME"),
    ],
)
async def test_replies_and_ready_mails_go_as_mime(fields: dict[str, Any], why: str) -> None:
    """What JSON has no words for goes as base64 text/plain, with the stamp as a header."""
    wire = Wire(httpx.Response(202))
    assert await wire.graph.send(ACCOUNT, [mail(**fields)], TOKEN) == [Receipt("mime", client_request_id="id-1", why=why)]
    [request] = wire.requests
    assert request.headers["Content-Type"] == "text/plain"
    raw = base64.b64decode(request.content, validate=True)
    assert b"X-Mailroom-Stamp: s1\r\n" in raw
    assert ("mime" not in fields) == (b"In-Reply-To: <a@b>" in raw)


async def test_a_mixed_slice_answers_in_order() -> None:
    """Whatever path a mail takes, its answer stands where the mail stood."""

    def answer(request: httpx.Request) -> httpx.Response:
        return (
            httpx.Response(202) if request.url.path.endswith("sendMail") else httpx.Response(200, json={"responses": [inner(0), inner(1)]})
        )

    receipts = await Wire(answer).graph.send(ACCOUNT, [mail(in_reply_to="<a@b>"), mail(), mail(in_reply_to="<c@d>"), mail()], TOKEN)
    assert [receipt.path for receipt in receipts if isinstance(receipt, Receipt)] == ["mime", "batch", "mime", "batch"]


MEANINGS = [
    (error(400, "ErrorInvalidRecipients"), Refused, "recipient_invalid"),
    (error(400, "SomethingNew"), Refused, "provider_refused"),
    (httpx.Response(400, text="<html>"), Refused, "provider_refused"),
    (error(413, "ErrorMessageSizeExceeded"), Refused, "mail_too_large"),
    (error(413, ""), Refused, "mail_too_large"),
    (error(413, "ErrorQuotaExceeded"), NotSent, "mailbox_full"),
    (error(401, "InvalidAuthenticationToken"), TokenRejected, "token_rejected"),
    (error(403, "ErrorSendAsDenied"), Refused, "send_as_denied"),
    (error(403, "ErrorAccessDenied"), NotSent, "access_denied"),
    (error(404, "ErrorInvalidUser"), NotSent, "mailbox_unavailable"),
    (error(404, "MailboxNotEnabledForRESTAPI"), NotSent, "mailbox_unavailable"),
    (error(429, "ApplicationThrottled"), Throttled, "throttled"),
    (error(503, "CommandConcurrencyLimitReached"), Throttled, "throttled"),
    (error(500, "ErrorInternalServerError"), DeliveryInDoubt, "answer_unclear"),
    (httpx.Response(502, text="<html>bad gateway"), DeliveryInDoubt, "answer_unclear"),
    (error(504, "UnknownError"), DeliveryInDoubt, "answer_unclear"),
    (error(507, ""), DeliveryInDoubt, "answer_unclear"),
    (httpx.Response(200, text="<html>welcome"), DeliveryInDoubt, "answer_unclear"),
    (httpx.Response(302, headers={"Location": "https://elsewhere.example"}), DeliveryInDoubt, "answer_unclear"),
    (httpx.ReadTimeout("slow"), DeliveryInDoubt, "answer_lost"),
    (httpx.ReadError("cut"), DeliveryInDoubt, "answer_lost"),
    (httpx.WriteError("cut"), DeliveryInDoubt, "answer_lost"),
    (httpx.RemoteProtocolError("garbage"), DeliveryInDoubt, "answer_lost"),
    (httpx.ConnectError("refused"), NotSent, "provider_unreachable"),
    (httpx.ConnectTimeout("slow"), NotSent, "provider_unreachable"),
    (httpx.PoolTimeout("full"), NotSent, "provider_unreachable"),
]


@pytest.mark.parametrize(("answer", "kind", "code"), MEANINGS)
async def test_what_an_answer_means(answer: httpx.Response | Exception, kind: type, code: str) -> None:
    """Only what is known to be not sent counts as not sent, only faults of the mail refuse it, and no POST is repeated."""
    wire = Wire(answer)
    [result] = await wire.graph.send(ACCOUNT, [mail()], TOKEN)
    assert type(result) is kind
    assert isinstance(result, Exception)
    assert getattr(result, "code", "") == code
    assert getattr(result, "vague", False) == (isinstance(answer, httpx.Response) and answer.status_code == 503)
    assert len(wire.requests) == 1
    if kind is NotSent or kind is Refused:
        assert getattr(result, "detail", "")


@pytest.mark.parametrize(("answer", "kind", "code"), [one for one in MEANINGS if one[1] is not Refused])
async def test_an_answer_to_a_batch_counts_for_all_its_mails(answer: httpx.Response | Exception, kind: type, code: str) -> None:
    """What befalls the outer request befalls every mail in it."""
    results = await Wire(answer).graph.send(ACCOUNT, [mail("s1"), mail("s2")], TOKEN)
    assert [type(result) for result in results] == [DeliveryInDoubt if _is_200(answer) else kind] * 2


def _is_200(answer: object) -> bool:
    return isinstance(answer, httpx.Response) and answer.status_code == 200


async def test_a_batch_that_is_refused_refuses_no_mail() -> None:
    """A 400 for the batch says nothing against any one mail in it: none was sent, each stays pending."""
    results = await Wire(error(400, "BadRequest")).graph.send(ACCOUNT, [mail("s1"), mail("s2")], TOKEN)
    assert [type(result) for result in results] == [NotSent, NotSent]


async def test_a_late_202_is_a_202() -> None:
    """202 with Retry-After means accepted: who sent again there sent twice."""
    [receipt] = await Wire(httpx.Response(202, headers={"Retry-After": "5"})).graph.send(ACCOUNT, [mail()], TOKEN)
    assert isinstance(receipt, Receipt)


async def test_retry_after_is_passed_on() -> None:
    """The provider's wish to wait reaches the lane, from a single answer and from one inside a batch."""
    [single] = await Wire(error(429, "TooManyRequests", **{"Retry-After": "7"})).graph.send(ACCOUNT, [mail()], TOKEN)
    answers = [inner(0), inner(1, 429, {"retry-after": "9"})]
    wire = Wire(httpx.Response(200, json={"responses": answers}))
    [_, second] = await wire.graph.send(ACCOUNT, [mail("s1"), mail("s2")], TOKEN)
    assert isinstance(single, Throttled)
    assert isinstance(second, Throttled)
    assert (single.retry_after, second.retry_after) == (7.0, 9.0)


@pytest.mark.parametrize(
    "body", [b'{"responses": [{"id": "0", "status": 202}', b"<html>", b"{}", b'{"responses": [{"id": "x", "status": 202}]}']
)
async def test_a_mail_that_a_batch_does_not_answer_for_is_in_doubt(body: bytes) -> None:
    """A cut or garbled answer may hide that all were sent."""
    results = await Wire(httpx.Response(200, content=body)).graph.send(ACCOUNT, [mail("s1"), mail("s2")], TOKEN)
    assert [type(result) for result in results] == [DeliveryInDoubt, DeliveryInDoubt]


async def test_a_refused_token_is_not_tried_mail_after_mail() -> None:
    """After a 401 the rest of a slice is not sent with the same token, and all of it may go again."""
    wire = Wire(error(401, "InvalidAuthenticationToken"))
    results = await wire.graph.send(ACCOUNT, [mail("s1"), mail("s2", in_reply_to="<a@b>")], TOKEN)
    assert [type(result) for result in results] == [TokenRejected, TokenRejected]
    assert len(wire.requests) == 1


async def test_a_throttled_mailbox_is_left_alone() -> None:
    """After a 429 the rest of a slice is not sent, and is known to be not sent."""
    wire = Wire(error(429, "TooManyRequests", **{"Retry-After": "7"}))
    first, second = await wire.graph.send(ACCOUNT, [mail("s1"), mail("s2", in_reply_to="<a@b>")], TOKEN)
    assert (type(first), type(second)) == (Throttled, NotSent)
    assert isinstance(second, NotSent)
    assert second.retry_after == 7.0
    assert len(wire.requests) == 1


@pytest.mark.parametrize("fields", [{}, {"in_reply_to": "<a@b>"}])
async def test_a_mail_over_the_limit_never_reaches_graph(fields: dict[str, Any]) -> None:
    """More than one request can hold is refused with the limit: at accept, and should it come that far, at sending."""
    wire = Wire(httpx.Response(202))
    large = mail(attachments=(Attachment("a", bytes(3_200_000)),), **fields)
    with pytest.raises(TooLarge, match="4194304") as caught:
        wire.graph.check(large.message)
    [result] = await wire.graph.send(ACCOUNT, [large], TOKEN)
    assert isinstance(result, Refused)
    assert caught.value.code == result.code == "mail_too_large_for_path"
    assert not wire.requests


async def test_what_fits_is_accepted_and_sent() -> None:
    """The check at accept and the request's true size agree on both sides of the limit."""
    wire = Wire(httpx.Response(202))
    room = 4 * 1024 * 1024 - 600
    for text in ("x" * room, '"' * (room // 2), "\x01" * (room // 6)):
        fits = mail(text=text)
        wire.graph.check(fits.message)
        assert isinstance((await wire.graph.send(ACCOUNT, [fits], TOKEN))[0], Receipt)
        with pytest.raises(TooLarge):
            wire.graph.check(mail(text=text + text[:700]).message)


def test_what_wiring_asks_for() -> None:
    """A provider has a `build` and says which scope its tokens need."""
    assert isinstance(build(FakeParts(httpx.AsyncClient())), Graph)
    assert scope(ACCOUNT) == "https://graph.example/.default"
