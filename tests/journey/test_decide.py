"""What a person decides of accepted mails, through the real triggers: cancel, retry, failures, resolve."""

from __future__ import annotations

import csv
import io
import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from tests.journey.conftest import Town
from tests.journey.test_batches import done
from tests.journey.test_smtp import REPORTS

pytestmark = pytest.mark.slow


def test_a_scheduled_batch_is_cancelled(town: Town) -> None:
    """None of it is sent when its time comes; it says so, and so do its mails. Nobody else's batch can be cancelled."""
    name = f"Cancel {uuid.uuid4().hex[:12]}"
    when = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()
    mails = [town.mail(subject=name) for _ in range(30)]
    location = town.api.post("batches", json=mails, params={"send_at": when}).headers["Location"].removeprefix("/api/")
    answer = town.api.delete(location)
    assert (answer.status_code, answer.json()["counts"]["cancelled"], answer.json()["status"]) == (200, 30, "cancelled")
    assert town.api.delete(location).json()["counts"]["cancelled"] == 30
    assert town.api.post(f"{location}/retry").json()["code"] == "batch_cancelled"
    marker = f"After {uuid.uuid4().hex[:12]}"
    later = (datetime.now(UTC) + timedelta(seconds=6)).isoformat()
    town.api.post("batches", json=[town.mail(subject=marker)], params={"send_at": later})
    town.until(lambda: town.sent(marker))
    assert town.sent(name) == []
    assert town.api.delete("batches/b0").status_code == 404


def test_a_batch_is_cancelled_while_it_is_sent(town: Town) -> None:
    """Sent or cancelled, each mail is one of them, and what was cancelled is nowhere."""
    name = f"Cancel {uuid.uuid4().hex[:12]}"
    mails = [town.mail(subject=f"{name} {number}") for number in range(400)]
    location = town.api.post("batches", json=mails).headers["Location"].removeprefix("/api/")
    town.until(lambda: town.api.get(location).json()["counts"]["sent"])
    town.api.delete(location)
    view = town.until(lambda: done(town, location))
    copies = [row["copies"] for number in range(400) for row in town.sent(f"{name} {number}")]
    assert copies == [1] * view["counts"]["sent"]
    assert view["counts"]["sent"] + view["counts"]["cancelled"] == 400
    assert view["counts"]["cancelled"] > 0


def test_refused_mails_are_listed_and_tried_once_more(town: Town) -> None:
    """A recipient whom the server does not know is listed, as NDJSON and as CSV; once it knows her, a retry sends that mail alone."""
    name = f"Retry {uuid.uuid4().hex[:12]}"
    town.fault(service="smtp", path="rcpt to:<=late@", answer="550 5.1.1 User unknown")
    mails = [town.mail(account=REPORTS, subject=f"{name} {n}", to=[f"{who}@example.com"]) for n, who in enumerate(("ann", "=late"))]
    location = town.api.post("batches", json=mails).headers["Location"].removeprefix("/api/")
    view = town.until(lambda: done(town, location))
    assert (view["counts"]["sent"], view["counts"]["refused"]) == (1, 1)
    [row] = map(json.loads, town.api.get(f"{location}/failures").text.splitlines())
    assert (row["line"], row["status"], row["account"]) == (2, "refused", REPORTS)
    answer = town.api.get(f"{location}/failures", headers={"Accept": "text/csv"})
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert [one["code"] for one in csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig")))] == [row["code"]]
    town.heal()
    retried = town.api.post(f"{location}/retry")
    assert (retried.status_code, retried.json()["retried"]) == (202, 1)
    assert town.until(lambda: done(town, location))["counts"]["sent"] == 2
    assert [one["copies"] for n in range(2) for one in town.sent(f"{name} {n}")] == [1, 1]
    assert town.api.post(f"{location}/retry").json()["retried"] == 0
    assert town.api.get(f"{location}/failures").text == ""


@pytest.mark.parametrize(("decision", "status", "copies"), [("sent", "sent", 1), ("refused", "refused", 1), ("resend", "sent", 2)])
def test_a_held_mail_is_resolved(town: Town, decision: str, status: str, copies: int) -> None:
    """The server took it and its answer was lost; SMTP can't be asked, so it is held until a person says what it is."""
    name, own = f"Held {uuid.uuid4().hex[:12]}", f"held-{uuid.uuid4().hex}"
    town.fault(service="smtp", path="end", answer="cut", after_accepting=True, times=1)
    assert town.api.post("messages", json=town.mail(id=own, account=REPORTS, subject=name)).json()["status"] == "held"
    answer = town.api.post(f"messages/{own}/resolve", json={"as": decision})
    assert answer.status_code == 200, answer.text
    town.until(lambda: town.api.get(f"messages/{own}").json()["status"] == status)
    assert sum(row["copies"] for row in town.sent(name)) == copies
    again = town.api.post(f"messages/{own}/resolve", json={"as": decision})
    assert (again.status_code, again.json()["code"]) == (409, "not_held")


def test_who_may_not_decide_does_not(town: Town) -> None:
    """A token without Mail.Manage is told so; an unknown mail and a decision that there is not are, too."""
    stranger = {"Authorization": f"Bearer {town.token('graph', town.told['scope'])}"}
    refused = town.api.post("messages/a/resolve", json={"as": "sent"}, headers=stranger)
    assert (refused.status_code, refused.json()["code"]) == (403, "role_missing")
    assert "Mail.Manage" in refused.json()["detail"]
    assert town.api.post("messages/nobodys/resolve", json={"as": "sent"}).json()["code"] == "message_unknown"
    assert town.api.post("messages/nobodys/resolve", json={"as": "maybe"}).json()["code"] == "decision_invalid"
