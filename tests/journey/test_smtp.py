"""A mail over HTTP that goes by SMTP: through the real trigger, the ledger and the real wire, into the sandbox's box once."""

from __future__ import annotations

import base64
import uuid
from typing import Any

import pytest

from tests.journey.conftest import Town

pytestmark = pytest.mark.slow

NOTICES, REPORTS = "notices@contoso.example", "reports@contoso.example"


def subject() -> str:
    return f"Report {uuid.uuid4().hex[:12]}"


def by_smtp(town: Town, name: str, **fields: Any) -> dict[str, Any]:
    return town.mail(account=REPORTS, subject=name, **fields)


def settled(town: Town, name: str) -> Any:
    view = town.api.get(f"messages/{name}").json()
    return view if view["status"] not in ("pending", "sending", "in_doubt") else None


def test_a_mail_is_sent_once(town: Town) -> None:
    """POST answers 202 with `sent` and the path; the same request again sends nothing."""
    name, key = subject(), {"Idempotency-Key": uuid.uuid4().hex}
    pdf = base64.b64encode(b"%PDF-1.4\n.\n" + bytes(range(256))).decode()
    mail = by_smtp(town, name, html="<p>Hello <b>Ann</b></p>", attachments=[{"name": "r.pdf", "content": pdf}])
    first, again = (town.api.post("messages", json=mail, headers=key) for _ in range(2))
    assert first.status_code == 202, first.text
    assert (first.json()["status"], first.json()["path"]) == ("sent", "smtp")
    assert again.json() == first.json()
    assert [(row["mailbox"], row["copies"]) for row in town.sent(name)] == [(REPORTS, 1)]


def test_a_batch_is_sent_once(town: Town) -> None:
    """Twenty-five mails, two slices: each goes once."""
    names = [subject() for _ in range(25)]
    batch = town.api.post("batches", json=[by_smtp(town, name) for name in names]).json()
    town.until(lambda: town.api.get(f"batches/{batch['id']}").json()["counts"]["sent"] == 25)
    assert [row["copies"] for name in names for row in town.sent(name)] == [1] * 25


def test_an_uploaded_file_goes(town: Town) -> None:
    """A file that was put to a URL first is in the mail: more than one request to Graph could carry."""
    told = town.api.post("attachments").json()
    town.plain.put(told["url"], content=bytes(3_300_000), headers=told["headers"]).raise_for_status()
    name = subject()
    answer = town.api.post("messages", json=by_smtp(town, name, attachments=[{"name": "big.bin", "blob": told["blob"]}]))
    found = answer.json() if answer.json()["status"] == "sent" else town.until(lambda: settled(town, answer.json()["id"]))
    assert (found["status"], found["path"]) == ("sent", "smtp"), found
    assert [row["copies"] for row in town.sent(name)] == [1]


def test_a_rejected_token_is_renewed_once(town: Town) -> None:
    """A 535 in mid-life gets a new token, and the mail goes in the same request."""
    town.fault(service="smtp", path="auth", answer="535 5.7.3 Authentication unsuccessful", times=1)
    town.fault(service="smtp", path="mail", answer="530 5.7.57 Client not authenticated to send mail", times=1)
    name = subject()
    assert town.api.post("messages", json=by_smtp(town, name)).json()["status"] == "sent"
    assert [row["copies"] for row in town.sent(name)] == [1]


@pytest.mark.parametrize(("path", "answer"), [("end", "451 4.7.500 Server busy"), ("mail", "cut"), ("ehlo", "strip"), ("auth", "cut")])
def test_what_was_surely_not_sent_goes_later(town: Town, path: str, answer: str) -> None:
    """Whatever went wrong before the server took it, the mail goes by itself, once."""
    name = subject()
    town.fault(service="smtp", path="ehlo", answer="421 4.3.2 Service not available", times=1)  # the kept connection's successor meets it
    town.fault(service="smtp", path=path, answer=answer, times=1)
    first = town.api.post("messages", json=by_smtp(town, name)).json()
    found = first if first["status"] == "sent" else town.until(lambda: settled(town, first["id"]))
    assert (found["status"], [row["copies"] for row in town.sent(name)]) == ("sent", [1])


@pytest.mark.parametrize(("path", "after", "copies"), [("end", True, [1]), ("data", False, [])])
def test_a_lost_answer_is_held(town: Town, path: str, after: bool, copies: list[int]) -> None:
    """SMTP can't be asked, so by default a person decides; nothing is sent again by itself."""
    name = subject()
    town.fault(service="smtp", path=path, answer="cut", after_accepting=after, times=1)
    answer = town.api.post("messages", json=by_smtp(town, name)).json()
    assert (answer["status"], answer["code"]) == ("held", "answer_lost")
    assert [row["copies"] for row in town.sent(name)] == copies


@pytest.mark.parametrize(("path", "after"), [("end", True), ("data", False)])
def test_where_graph_may_look_a_lost_answer_is_no_lost_mail(town: Town, path: str, after: bool) -> None:
    """The account says who may search its mailbox: whether the server took the mail or not, it is there once, and nobody has to decide."""
    name = subject()
    town.fault(service="smtp", path=path, answer="cut", after_accepting=after, times=1)
    answer = town.api.post("messages", json=town.mail(account=NOTICES, subject=name)).json()
    assert (answer["status"], answer["code"]) == ("in_doubt", "answer_lost")
    found = town.until(lambda: settled(town, answer["id"]))
    assert (found["status"], found["path"]) == ("sent", "found" if after else "smtp")
    assert [row["copies"] for row in town.sent(name)] == [1]


def test_a_refused_recipient_answers_422(town: Town) -> None:
    """A fault of the mail itself is told at once, with the server's own words."""
    name = subject()
    town.fault(service="smtp", path="rcpt to:<gone@", answer="550 5.1.1 User unknown", times=1)
    answer = town.api.post("messages", json=by_smtp(town, name, to=["gone@example.com"]))
    assert (answer.status_code, answer.json()["code"]) == (422, "recipient_refused")
    assert "550 5.1.1 User unknown" in answer.json()["detail"]
    assert town.sent(name) == []
