"""What `mailroom batch` makes of a file, what it asks of the API, and how it tells how far the mails have come."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from cli import api, sign_in
from cli.batch import request, text, watch
from cli.batch.watch import Watch
from cli.main import main
from cli.progress import EVERY, Progress
from mailroom.errors import AuthorityDown, AuthorityRefused, BadInput, BadSettings, MailroomError
from mailroom.model import account
from mailroom.model.account import Cloud
from mailroom.model.token import Token

API = account.Api("tenant", frozenset({"guid", "api://mailroom"}), Cloud("https://login", "graph", "scope", "vault", "storage"))
TEMPLATE = b'{"to": ["{{ email }}"], "subject": "Hi"}'


@pytest.mark.parametrize(("content", "kind"), [(b'{"a": 1}\n{"a": 2}', "x-ndjson"), (b'\xef\xbb\xbf [{"a": 1}]', "json")])
def test_lines_go_as_they_are(content: bytes, kind: str) -> None:
    """Byte for byte, so that the line that the API names is the one in the file."""
    made = request.of_lines(content, {"partial": "true"})
    assert (made.body, made.kind, made.params) == (content, f"application/{kind}", {"partial": "true"})


def test_the_same_command_has_the_same_key() -> None:
    """Whatever makes it another request makes it another key; the API takes up to 255 characters."""
    keys = {request.of_lines(body, params).key for body in (b"{}", b"{ }") for params in ({}, {"partial": "true"}, {"accounts": "a"})}
    assert len(keys) == 6
    assert request.of_lines(b"{}", {"a": "1", "b": "2"}).key == request.of_lines(b"{}", {"b": "2", "a": "1"}).key
    assert max(map(len, keys)) < 255


@pytest.mark.parametrize(
    "content", [b'[{"email": "a@x.example"}]', b'{"email": "a@x.example"}\n\n', b'\xef\xbb\xbf{"email": "a@x.example"}']
)
def test_a_template_takes_its_recipients_from_json(content: bytes) -> None:
    """An array or one object a line; the template's fields, or a whole request that has them."""
    wanted = {"template": json.loads(TEMPLATE), "recipients": [{"email": "a@x.example"}]}
    assert json.loads(request.of_template(TEMPLATE, content, {}, as_csv=False).body) == wanted
    whole = b'\xef\xbb\xbf{"template": ' + TEMPLATE + b', "attachments": []}'
    assert json.loads(request.of_template(whole, content, {}, as_csv=False).body) == wanted | {"attachments": []}


def test_a_template_takes_its_recipients_from_csv() -> None:
    """The text as it is, for the API knows what spreadsheets write; without its byte order mark."""
    made = json.loads(request.of_template(TEMPLATE, "\ufeffemail;n\r\nÄ@x;1\r\n".encode(), {}, as_csv=True).body)
    assert made["csv"] == "email;n\r\nÄ@x;1\r\n"


WRONG = [
    (lambda: request.of_lines(b" \n", {}), "file_empty", ""),
    (lambda: request.of_template(b"Dear {{ name }}", b"{}", {}, as_csv=False), "template_not_json", ""),
    (lambda: request.of_template(b"[]", b"{}", {}, as_csv=False), "template_not_json", ""),
    (lambda: request.of_template(TEMPLATE, b'{"a": 1}\n\n7', {}, as_csv=False), "recipients_not_json", "line 3"),
    (lambda: request.of_template(TEMPLATE, b'{"a": "\xff"}', {}, as_csv=False), "recipients_not_json", "line 1"),
    (lambda: request.of_template(TEMPLATE, b"[1]", {}, as_csv=False), "recipients_not_json", ""),
    (lambda: request.of_template(TEMPLATE, b"name\nM\xfcller", {}, as_csv=True), "csv_not_utf8", "line 2"),
]


@pytest.mark.parametrize(("make", "code", "where"), WRONG)
def test_a_wrong_file_is_named_before_anything_is_sent(make: Callable[[], Any], code: str, where: str) -> None:
    """The line, what was found, and what would be right."""
    with pytest.raises(BadInput) as caught:
        make()
    assert caught.value.code == code
    assert where in caught.value.detail
    assert caught.value.next_step


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_that_does_not_wrap() -> None:
    """Drawn over itself, as wide as the window and no wider."""
    out = Terminal()
    progress = Progress(out, columns=lambda: 50)
    progress.show(1, 3, "1 sent")
    progress.show(3, 3, "3 sent " * 20)
    first, second = out.getvalue().split("\r\x1b[2K")[1:]
    assert first == "[##########....................]  33%  1 sent"
    assert (len(second), second[:32]) == (49, f"[{'#' * 30}]")
    progress.clear()
    assert out.getvalue().endswith("\r\x1b[2K")


def test_a_file_gets_a_line_now_and_then() -> None:
    """No more than one in ten seconds, and none that says what the last one said."""
    out, now = io.StringIO(), 0.0
    progress = Progress(out, lambda: now)
    for at in range(40):
        now = float(at)
        progress.show(at // 15, 3, f"{at // 15} sent")
    progress.clear()
    assert EVERY == 10.0
    assert out.getvalue() == "0 of 3: 0 sent\n1 of 3: 1 sent\n2 of 3: 2 sent\n"
    out, now = io.StringIO(), 0.0
    progress = Progress(out, lambda: now)
    for at in range(40):
        now = float(at)
        progress.show(at, 40, f"{at} sent")
    assert [line.split()[0] for line in out.getvalue().splitlines()] == ["0", "10", "20", "30"]


class Server:
    """Answers of the API and of the authority in a row; what was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []

    async def __call__(self, asked: httpx.Request) -> httpx.Response:
        self.asked.append(asked)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self))


def functions(server: Server) -> api.Api:
    tokens = iter("abc")

    async def token(fresh: bool) -> str:
        return next(tokens) if fresh else "old"

    return api.Api("https://f.example/api", server.client, token)


async def test_a_token_at_its_end_costs_one_more_try() -> None:
    """A 401 did nothing: a fresh token, the same request with the same key, once."""
    server = Server(httpx.Response(401), httpx.Response(202, json={"id": "b1"}))
    assert await functions(server).post("batches", b"{}", "application/json", "k", {"partial": "true"}) == {"id": "b1"}
    assert [one.headers["Authorization"] for one in server.asked] == ["Bearer old", "Bearer a"]
    assert {(str(one.url), one.headers["Idempotency-Key"]) for one in server.asked} == {("https://f.example/api/batches?partial=true", "k")}
    again = Server(httpx.Response(401), httpx.Response(401, json={"code": "token_missing", "detail": "No.", "next_step": "Do."}))
    with pytest.raises(api.Answered, match=r"token_missing: No\. Do\."):
        await functions(again).get("batches/b1")


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"", b"[]", b'{"error": 1}'])
async def test_a_page_that_is_none_of_ours_is_told_as_such(body: bytes) -> None:
    """A proxy's page, also with a good status, says where to look; in one line."""
    for status in (200, 404) if body != b'{"error": 1}' else (404,):
        with pytest.raises(api.Answered) as caught:
            await functions(Server(httpx.Response(status, content=body))).get("batches/b1")
        assert caught.value.code == "answer_unreadable"
        assert str(status) in caught.value.detail
        assert "MAILROOM_URL" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("told", "base"),
    [
        ("https://f.example", "https://f.example/api"),
        ("https://f.example/", "https://f.example/api"),
        (" https://f.example/other/ ", "https://f.example/other"),
        ("http://localhost:7071/api", "http://localhost:7071/api"),
    ],
)
def test_the_address_may_leave_out_the_usual_path(told: str, base: str) -> None:
    """And is tidied."""
    assert api.base({"MAILROOM_URL": told}) == base


@pytest.mark.parametrize("told", ["", "f.example", "http://f.example", "http://localhost.example/api", "ftp://localhost"])
def test_a_token_goes_to_no_address_that_could_be_read_on_the_way(told: str) -> None:
    """https, or this very machine."""
    with pytest.raises(BadSettings, match="MAILROOM_URL"):
        api.base({"MAILROOM_URL": told})


class Known:
    """An identity that is signed in; the resource that it was asked for."""

    resource = ""

    async def token(self, resource: str, *, fresh: bool = False) -> Token:
        self.resource = resource
        return Token("from-az", 2e9)


CALLER = {"MAILROOM_CLIENT_ID": "shop", "MAILROOM_CLIENT_SECRET": "s3cret"}


async def test_an_application_signs_in_by_its_secret_once() -> None:
    """With what accounts.toml says of the API, and anew only where that is wanted."""
    server = Server(*(httpx.Response(200, json={"access_token": name}) for name in "ab"))
    token = sign_in.signing_in(CALLER, lambda: API, server.client, Known)
    assert [await token(False), await token(False), await token(True), await token(False)] == ["a", "a", "b", "b"]
    assert str(server.asked[0].url) == "https://login/tenant/oauth2/v2.0/token"
    form = dict(httpx.QueryParams(server.asked[0].content.decode()))
    assert form == {
        "client_id": "shop",
        "client_secret": "s3cret",
        "scope": "api://mailroom/.default",
        "grant_type": "client_credentials",
    }


async def test_else_the_application_that_is_signed_in_to_azure() -> None:
    """Nothing but the audience is needed then."""
    who = Known()
    token = sign_in.signing_in({"MAILROOM_AUDIENCE": "api://other"}, lambda: None, Server().client, lambda: who)
    assert (await token(False), who.resource) == ("from-az", "api://other")


@pytest.mark.parametrize(
    ("env", "found", "said"),
    [
        ({"MAILROOM_CLIENT_ID": "shop"}, API, "MAILROOM_CLIENT_SECRET"),
        ({"MAILROOM_CLIENT_SECRET": "s"}, API, "MAILROOM_CLIENT_ID"),
        ({}, None, "MAILROOM_AUDIENCE"),
        (CALLER | {"MAILROOM_AUDIENCE": "api://x"}, None, "MAILROOM_TENANT"),
    ],
)
def test_what_is_missing_is_named(env: dict[str, str], found: account.Api | None, said: str) -> None:
    """Before anybody is asked."""
    with pytest.raises(BadSettings, match=said):
        sign_in.signing_in(env, lambda: found, Server().client, Known)


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (
            httpx.Response(401, json={"error": "invalid_client", "error_description": "AADSTS7000215: No.\r\nTrace"}),
            AuthorityRefused,
            "No.",
        ),
        (httpx.Response(200, json={}), AuthorityRefused, "answered 200"),
        (httpx.Response(502, content=b"<html>"), AuthorityDown, "https://login/tenant"),
        (httpx.ConnectError("no"), AuthorityDown, "ConnectError"),
    ],
)
async def test_a_sign_in_that_fails_tells_no_secret(answer: Any, kind: type[MailroomError], said: str) -> None:
    """One line, what the authority said, and what to check."""
    token = sign_in.signing_in(CALLER, lambda: API, Server(answer).client, Known)
    with pytest.raises(kind) as caught:
        await token(False)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


def view(**counts: int) -> httpx.Response:
    return httpx.Response(200, json={"id": "b1", "counts": dict.fromkeys(text.STATUSES, 0) | counts, "refused": []})


async def until_done(server: Server) -> tuple[dict[str, Any], str, list[float]]:
    out, slept = io.StringIO(), []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    found = await Watch(functions(server), Progress(out, lambda: 100.0 * len(slept)), sleep).until_done("b1")
    return found, out.getvalue(), slept


async def test_watching_ends_when_nothing_is_owed() -> None:
    """What is in doubt will be asked for, so it is waited for; what is held waits for a person, so it is not."""
    server = Server(view(pending=3), view(in_doubt=1, sent=2), view(held=1, sent=2))
    found, out, slept = await until_done(server)
    assert found["counts"]["held"] == 1
    assert out == "0 of 3: 3 pending\n2 of 3: 2 sent, 1 in doubt\n3 of 3: 2 sent, 1 held\n"
    assert slept == [watch.QUICK] * 2


async def test_a_large_batch_is_looked_at_less_often() -> None:
    """Counting it is work."""
    _, _, slept = await until_done(Server(view(pending=50_000), view(sent=50_000)))
    assert slept == [watch.SLOW]


async def test_watching_outlives_an_outage_and_no_refusal() -> None:
    """Functions that answer 429 for a while are asked again; a batch that is not there is not waited for."""
    busy = httpx.Response(429, headers={"Retry-After": "60"}, json={"code": "busy", "detail": "Busy."})
    found, _, _ = await until_done(Server(busy, busy, view(sent=1)))
    assert found["counts"]["sent"] == 1
    with pytest.raises(api.Answered, match="batch_unknown"):
        await until_done(Server(httpx.Response(404, json={"code": "batch_unknown", "detail": "There is none."})))


async def test_what_was_uploaded_is_first_accepted() -> None:
    """How far it is read, then how far it is sent; one that is refused is told with its line."""
    reading = httpx.Response(200, json={"id": "b1", "status": "accepting", "lines": 7, "bytes": 700, "of_bytes": 1000})
    _, out, _ = await until_done(Server(reading, view(sent=9)))
    assert out == "700 of 1000: 7 lines read\n9 of 9: 9 sent\n"
    bad = httpx.Response(
        200, json={"id": "b1", "status": "refused", "code": "id_repeated", "detail": "line 7: id: No.", "next_step": "Do."}
    )
    with pytest.raises(api.Answered, match=r"id_repeated: line 7: id: No\. Do\."):
        await until_done(Server(bad))


MAILS = b'[{"a": 1},\n {"a":\n 2}]'
LARGE = [
    (request.of_lines(b'{"a": 1}\n{"a": 2}', {}, limit=9), {"format": "ndjson"}, b'{"a": 1}\n{"a": 2}'),
    (request.of_lines(MAILS, {}, limit=9), {"format": "ndjson"}, b'{"a": 1}\n{"a":  2}'),
    (
        request.of_template(b'{"to": []}', MAILS, {}, as_csv=False, limit=9),
        {"template": {"to": []}, "format": "ndjson"},
        b'{"a":1}\n{"a":2}',
    ),
    (
        request.of_template(b'{"to": []}', b"name\r\nAnn", {}, as_csv=True, limit=8),
        {"template": {"to": []}, "format": "csv"},
        b"name\r\nAnn",
    ),
]


@pytest.mark.parametrize(("made", "order", "upload"), LARGE)
def test_what_no_request_carries_is_uploaded(made: request.Request, order: dict[str, Any], upload: bytes) -> None:
    """As NDJSON or CSV, whatever it was, and named in the request; another content is another key."""
    assert (json.loads(made.naming("u1")), made.upload) == (order | {"blob": "u1"}, upload)
    assert made.key != request.Request(made.body, {}, made.kind, upload + b" ").key


def test_a_large_object_is_sent_in_two_files() -> None:
    """Its recipients could not be read line by line."""
    with pytest.raises(BadInput, match=r"batch_too_large.*--template"):
        request.of_lines(b'{"template":\n{}, "recipients": []}', {}, limit=9)


async def test_a_file_goes_without_our_token() -> None:
    """To the address that the API gave, with the headers that it gave; what storage refuses is told."""
    offer = {"blob": "u1", "method": "PUT", "url": "https://s.example/c/u1?sig=s", "headers": {"x-ms-blob-type": "BlockBlob"}}
    server = Server(httpx.Response(201, json=offer), httpx.Response(201))
    assert await functions(server).upload(b"mails") == "u1"
    put = server.asked[1]
    assert (put.method, str(put.url), put.content, put.headers["x-ms-blob-type"]) == ("PUT", offer["url"], b"mails", "BlockBlob")
    assert "Authorization" not in put.headers
    with pytest.raises(api.Answered, match=r"upload_failed: s\.example answered 403") as caught:
        await functions(Server(httpx.Response(201, json=offer), httpx.Response(403))).upload(b"mails")
    assert "sig=" not in str(caught.value)


def test_an_acceptance_without_counts_is_told_all_the_same() -> None:
    """Where storage failed right behind the commit, the id is what there is."""
    assert list(text.accepted({"id": "b1", "detail": "The batch was accepted; storage failed."})) == [
        "batch b1: The batch was accepted; storage failed."
    ]


def test_refused_mails_are_listed_up_to_a_bound() -> None:
    """With line, id, code and next step, and how many more there are."""
    rows = [{"id": None, "line": 1, "code": "bad", "detail": "line 1: to: No.", "next_step": "Do."}]
    rows += [{"id": f"m{at}", "line": at, "code": "gone", "detail": "Gone."} for at in range(2, 60)]
    lines = list(text.refused(rows, 90))
    assert lines[:3] == ["  bad: line 1: to: No.", "    → Do.", "  line 2: m2: gone: Gone."]
    assert lines[-1] == "  … and 70 more"
    assert len(lines) == 22


def test_what_was_cancelled_says_how_much_had_gone() -> None:
    """Or, on its way in, that nothing of it ever goes."""
    accepted = {"id": "b1", "status": "cancelled", "counts": dict.fromkeys(text.STATUSES, 0) | {"sent": 7, "cancelled": 3}}
    assert list(text.cancelled(accepted)) == ["batch b1: cancelled; 7 sent, 3 cancelled"]
    coming = {"id": "b2", "status": "cancelled", "detail": "The batch was cancelled before it was accepted."}
    assert list(text.cancelled(coming)) == ["batch b2: cancelled; The batch was cancelled before it was accepted."]


async def test_what_needs_no_key_has_none() -> None:
    """A cancellation and a retry are the same done twice; a list comes as it is, byte for byte."""
    server = Server(httpx.Response(200, json={"id": "b1"}), httpx.Response(200, content=b"\xef\xbb\xbfline,id\r\n"))
    assert await functions(server).do("DELETE", watch.path("b/1")) == {"id": "b1"}
    assert await functions(server).fetch("batches/b1/failures", {"format": "csv"}) == b"\xef\xbb\xbfline,id\r\n"
    first, second = server.asked
    assert (first.method, str(first.url)) == ("DELETE", "https://f.example/api/batches/b%2F1")
    assert "Idempotency-Key" not in first.headers
    assert str(second.url) == "https://f.example/api/batches/b1/failures?format=csv"


@pytest.mark.parametrize(
    "wrong", [["--cancel", "b1", "--csv"], ["--retry", "b1", "--template", "t"], ["f", "--cancel", "b1"], ["f", "--csv"]]
)
def test_what_does_not_go_together_is_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2 and one line, before anything is read or asked."""
    try:
        code = main(["batch", *wrong])
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 0
    assert code == 2
    assert capsys.readouterr().err.count("\n") == 1
