"""A mail over HTTP, through the real trigger and over the real wire into the sandbox's box."""

from __future__ import annotations

import base64
import uuid
from typing import Any

import httpx
import pytest

from tests.journey.conftest import Town

pytestmark = pytest.mark.slow


def subject() -> str:
    return f"Mail {uuid.uuid4().hex[:12]}"


def test_a_mail_is_sent_before_the_answer(town: Town) -> None:
    """POST answers 202 with `sent`, and the provider has exactly one copy."""
    name = subject()
    answer = town.api.post("messages", json=town.mail(subject=name, html="<p>Hello <b>Ann</b></p>"))
    assert answer.status_code == 202
    assert answer.json()["status"] == "sent"
    assert "text part" in answer.json()["note"]
    assert [row["copies"] for row in town.sent(name)] == [1]
    assert town.api.get(answer.headers["Location"].removeprefix("/api/")).json()["status"] == "sent"


def test_an_attachment_arrives_whole(town: Town) -> None:
    """A PDF sent to another mailbox of the town can be read there byte for byte."""
    name, pdf = subject(), b"%PDF-1.4\n" + bytes(range(256)) * 40
    attachment = {"name": "Rechnung Nº 7.pdf", "type": "application/pdf", "content": base64.b64encode(pdf).decode()}
    answer = town.api.post("messages", json=town.mail(to=[town.support], subject=name, attachments=[attachment]))
    assert answer.json()["status"] == "sent"
    graph, bearer = town.told["graph"], {"Authorization": f"Bearer {town.token('graph', 'https://graph.microsoft.com/.default')}"}
    url = f"{graph}/users/{town.support}/mailFolders/inbox/messages"
    [found] = town.plain.get(url, params={"$filter": f"subject eq '{name}'", "$expand": "attachments"}, headers=bearer).json()["value"]
    [got] = found["attachments"]
    assert (got["name"], base64.b64decode(got["contentBytes"])) == ("Rechnung Nº 7.pdf", pdf)


def test_a_reply_goes_as_mime(town: Town) -> None:
    """A mail with in_reply_to keeps its header, which Graph's JSON could not carry."""
    answer = town.api.post("messages", json=town.mail(subject=subject(), in_reply_to="<question@example.com>"))
    assert (answer.json()["status"], answer.json()["path"]) == ("sent", "mime")


def test_ready_mime_is_sent_as_it_is(town: Town) -> None:
    """A message/rfc822 body with ?account= is sent with our stamp and nothing else changed."""
    name = subject()
    raw = f"From: {town.billing}\r\nTo: ann@example.com\r\nSubject: {name}\r\nList-Unsubscribe: <mailto:u@example.com>\r\n\r\nHi\r\n"
    answer = town.api.post("messages", params={"account": town.billing}, content=raw, headers={"Content-Type": "message/rfc822"})
    assert answer.json()["status"] == "sent", answer.text
    assert [row["copies"] for row in town.sent(name)] == [1]


def test_the_same_key_is_the_same_mail(town: Town) -> None:
    """An Idempotency-Key makes a repeated request answer like the first, and another request with it a conflict."""
    name, key = subject(), {"Idempotency-Key": uuid.uuid4().hex}
    first = town.api.post("messages", json=town.mail(subject=name), headers=key)
    again = town.api.post("messages", json=town.mail(subject=name), headers=key)
    other = town.api.post("messages", json=town.mail(subject=subject()), headers=key)
    assert first.json() == again.json()
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    assert [row["copies"] for row in town.sent(name)] == [1]


def test_an_own_id_is_used_once(town: Town) -> None:
    """A caller's own id names its mail: the same mail again is not sent again, another one under it is a conflict."""
    name, own = subject(), f"invoice-{uuid.uuid4().hex}"
    assert town.api.post("messages", json=town.mail(subject=name, id=own)).json()["id"] == own
    assert town.api.post("messages", json=town.mail(subject=name, id=own)).json()["status"] == "sent"
    assert town.api.post("messages", json=town.mail(subject="Else", id=own)).json()["code"] == "id_taken"
    assert [row["copies"] for row in town.sent(name)] == [1]


@pytest.mark.parametrize("answer", ["504", "503", "429", "500", "cut"])
def test_a_lost_answer_is_no_second_copy(town: Town, answer: str) -> None:
    """A provider that takes the mail and answers with an error has one copy in the end, and the ledger says sent."""
    name = subject()
    town.fault(service="graph", path="sendMail", answer=answer, after_accepting=True, times=1, retry_after=1)
    first = town.api.post("messages", json=town.mail(subject=name)).json()
    assert first["status"] == "in_doubt"
    final = town.until(lambda: _settled(town, first["id"]))
    assert (final["status"], [row["copies"] for row in town.sent(name)]) == ("sent", [1])


@pytest.mark.parametrize("answer", ["503", "429", "504"])
def test_a_refusal_that_proves_nothing_is_asked_for_then_sent(town: Town, answer: str) -> None:
    """A provider that answers with an error and did not take the mail gets it again, once."""
    name = subject()
    town.fault(service="graph", path="sendMail", answer=answer, times=1, retry_after=1)
    first = town.api.post("messages", json=town.mail(subject=name)).json()
    final = town.until(lambda: _settled(town, first["id"]))
    assert (final["status"], [row["copies"] for row in town.sent(name)]) == ("sent", [1])


def test_a_rejected_token_is_renewed_once(town: Town) -> None:
    """A 401 in mid-life gets a new token and the mail goes in the same request."""
    town.fault(service="graph", path="sendMail", answer="401", times=1)
    assert town.api.post("messages", json=town.mail(subject=subject())).json()["status"] == "sent"


def _settled(town: Town, name: str) -> Any:
    view = town.api.get(f"messages/{name}").json()
    return view if view["status"] not in ("pending", "sending", "in_doubt") else None


BAD = [
    ({"account": "nobody@contoso.example"}, 400, "account_unknown", "account"),
    ({"to": ["ann"]}, 400, "address_without_domain", "to[0]"),
    ({"to": []}, 400, "recipients_none", "to"),
    ({"to": [f"a{n}@example.com" for n in range(501)]}, 400, "recipients_too_many", "to"),
    ({"subject": "Hi\r\nBcc: all@example.com"}, 400, "header_line_break", "subject"),
    ({"headers": {"x-a": "b\nc"}}, 400, "header_line_break", "headers.x-a"),
    ({"headers": {f"x-{n}": "v" for n in range(6)}}, 400, "headers_too_many", "headers"),
    ({"headers": {"Precedence": "bulk"}}, 400, "header_not_x", "headers.Precedence"),
    ({"attachments": [{"name": "a", "content": "%%%"}]}, 400, "base64_invalid", "attachments[0].content"),
    ({"subjekt": "Hi"}, 400, "field_unknown", "subjekt"),
    ({"subject": 7}, 400, "field_type", "subject"),
    ({"text": "x" * 4_300_000}, 413, "mail_too_large_for_path", None),
]


@pytest.mark.parametrize(("change", "status", "code", "field"), BAD, ids=[f"{code}-{field}" for _, _, code, field in BAD])
def test_bad_input_is_named(town: Town, change: dict[str, Any], status: int, code: str, field: str | None) -> None:
    """Each mistake has its own code, names its field and says what would be right; nothing is sent."""
    name = subject()
    answer = town.api.post("messages", json=town.mail(**{"subject": name} | change))
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem.get("field")) == (status, code, field)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert problem["next_step"]
    assert town.sent(name) == []


def test_what_is_not_json_is_said_to_be_not_json(town: Town) -> None:
    """A body that is no JSON is refused with where it breaks."""
    answer = town.api.post("messages", content=b'{"account": ')
    assert (answer.status_code, answer.json()["code"]) == (400, "not_json")


def test_a_mail_that_graph_refuses_answers_422(town: Town) -> None:
    """A fault of the mail itself is a problem with the mail's id, and the ledger keeps it as refused."""
    answer = town.api.post("messages", json=town.mail(to=["ann@exa_mple..com"]))
    assert answer.status_code in (400, 422)


def test_without_a_token_nobody_gets_in(town: Town) -> None:
    """401 says which check failed, with the challenge of RFC 6750."""
    answer = httpx.post(f"{town.told['functions']}/messages", json=town.mail())
    assert (answer.status_code, answer.json()["code"]) == (401, "token_missing")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    garbage = httpx.post(f"{town.told['functions']}/messages", json=town.mail(), headers={"Authorization": "Bearer x.y.z"})
    assert garbage.status_code == 401


def test_a_token_for_another_api_does_not_get_in(town: Town) -> None:
    """A good token of the same tenant for another audience is refused for its audience."""
    bearer = {"Authorization": f"Bearer {town.token('graph', 'https://graph.microsoft.com/.default')}"}
    answer = httpx.post(f"{town.told['functions']}/messages", json=town.mail(), headers=bearer)
    assert (answer.status_code, answer.json()["code"]) == (401, "token_audience")


def test_health_tells_no_secret(town: Town) -> None:
    """Anyone may ask whether we are well, and learns no name, address or secret."""
    answer = httpx.get(f"{town.told['functions']}/health")
    assert answer.status_code == 200
    assert town.billing not in answer.text


def test_another_callers_message_is_not_found(town: Town) -> None:
    """An id that is not the caller's own is 404, as one that never was."""
    assert town.api.get("messages/unknown").json()["code"] == "message_unknown"
