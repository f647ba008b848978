"""A template with its recipients, through the real triggers: JSON and CSV, what they share, who is refused, a dry run."""

from __future__ import annotations

import base64
import uuid
from typing import Any

import pytest

from tests.journey.conftest import Town
from tests.journey.test_batches import done

pytestmark = pytest.mark.slow


def asked(town: Town, subject: str, **more: Any) -> dict[str, Any]:
    template = {
        "account": town.billing,
        "to": ["{{ email|named(name) }}"],
        "subject": f"{subject} {{{{ number }}}}",
        "html": "<p>Dear {{ name }}</p>",
    }
    return {"template": template, **more}


def test_a_template_is_filled_in_for_everybody(town: Town) -> None:
    """Three rows of CSV with a byte order mark become three mails, in which html is escaped; one file goes with all."""
    name = f"Merge {uuid.uuid4().hex[:12]}"
    text = '\ufeffname,email,number\r\n"Lee, <Ann>",ann@example.com,1\r\nBob,bob@example.com,2\r\n"Eve\n",eve@example.com,3\r\n'
    file = {"name": "terms.txt", "content": base64.b64encode(b"Our terms").decode(), "type": "text/plain"}
    answer = town.api.post("batches", json=asked(town, name, csv=text.replace("Eve\n", "Eve"), attachments=[file]))
    assert answer.status_code == 202, answer.text
    view = town.until(lambda: done(town, answer.headers["Location"]))
    assert (view["counts"]["sent"], view["counts"]["refused"]) == (3, 0)
    assert [row["copies"] for number in (1, 2, 3) for row in town.sent(f"{name} {number}")] == [1, 1, 1]
    [ann] = arrived(town, f"{name} 1")
    assert ann["toRecipients"] == [{"emailAddress": {"name": "Lee, <Ann>", "address": "ann@example.com"}}]
    assert "Dear Lee, &lt;Ann&gt;" in ann["body"]["content"]
    assert ann["hasAttachments"] is True


def arrived(town: Town, subject: str) -> list[dict[str, Any]]:
    """The mails in Sent Items with that subject."""
    head = {"Authorization": f"Bearer {town.token('graph', 'https://graph.microsoft.com/.default')}"}
    where = f"{town.told['graph']}/users/{town.billing}/mailFolders/sentitems/messages"
    found = town.plain.get(where, params={"$filter": f"subject eq '{subject}'"}, headers=head).raise_for_status().json()
    return list(found["value"])


def test_who_lacks_a_variable_stays_behind(town: Town) -> None:
    """One recipient without a number is refused by name and line; the other two get their mails."""
    name = f"Merge {uuid.uuid4().hex[:12]}"
    people = [{"name": "Ann", "email": "ann@example.com", "number": 1}, {"name": "Eve", "email": "eve@example.com"}]
    answer = town.api.post("batches", json=asked(town, name, recipients=[*people, people[0] | {"number": 2}]))
    view = town.until(lambda: done(town, answer.headers["Location"]))
    assert (view["counts"]["sent"], view["counts"]["refused"]) == (2, 1)
    [eve] = view["refused"]
    assert (eve["line"], eve["code"]) == (2, "variable_missing")
    assert "'number'" in eve["detail"]


def test_a_template_that_loops_for_ever_is_stopped(town: Town) -> None:
    """With a code of its own, and nothing is sent; the functions go on."""
    name = f"Merge {uuid.uuid4().hex[:12]}"
    whole = asked(town, name, recipients=[{"name": "Ann", "email": "ann@example.com", "number": 1}])
    whole["template"]["text"] = "{% for a in range(50000) %}{% for b in range(50000) %}{{ a * b }}{% endfor %}{% endfor %}"
    answer = town.api.post("batches", json=whole)
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400, "template_unbounded", "line 1: template.text")
    assert town.sent(f"{name} 1") == []


def test_a_dry_run_sends_nothing(town: Town) -> None:
    """It answers 200 with the count, who would be refused, the time and the first three mails as they would go."""
    name = f"Merge {uuid.uuid4().hex[:12]}"
    people: list[Any] = [{"name": "Ann", "email": "ann@example.com", "number": number} for number in range(5)]
    answer = town.api.post(
        "batches", json=asked(town, name, recipients=[*people, {"name": "Bob", "email": "bob", "number": 9}]), params={"dry_run": "true"}
    )
    assert answer.status_code == 200, answer.text
    view = answer.json()
    assert (view["count"], [one["code"] for one in view["refused"]], view["estimated_seconds"]) == (5, ["address_without_domain"], 0)
    assert [one["subject"] for one in view["rendered"]] == [f"{name} {number}" for number in range(3)]
    assert town.sent(f"{name} 0") == []


def test_two_mailboxes_share_a_batch(town: Town) -> None:
    """Lines that name no account go from both, each mail once."""
    name = f"Shared {uuid.uuid4().hex[:12]}"
    mails = [{"to": ["ann@example.com"], "subject": f"{name} {number}", "text": "Hi"} for number in range(40)]
    answer = town.api.post("batches", json=mails, params={"accounts": f"{town.billing},{town.support}"})
    assert town.until(lambda: done(town, answer.headers["Location"]))["counts"]["sent"] == 40
    rows = [row for number in range(40) for row in town.sent(f"{name} {number}")]
    assert [row["copies"] for row in rows] == [1] * 40
    assert sorted(row["mailbox"] for row in rows) == sorted([town.billing, town.support] * 20)
