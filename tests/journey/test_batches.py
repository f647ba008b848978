"""A batch over HTTP and plain messages on the queue, through the real triggers."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from tests.journey.conftest import Town

pytestmark = pytest.mark.slow


def done(town: Town, location: str) -> Any:
    view = town.api.get(location.removeprefix("/api/")).json()
    return view if not any(view["counts"][name] for name in ("pending", "sending", "in_doubt")) else None


def test_a_batch_is_worked_off(town: Town) -> None:
    """Sixty mails of two accounts as NDJSON are all sent, each once."""
    name = f"Batch {uuid.uuid4().hex[:12]}"
    mails = [town.mail(account=town.billing if n % 2 else town.support, subject=f"{name} {n}") for n in range(60)]
    answer = town.api.post("batches", content="\n".join(map(json.dumps, mails)), headers={"Content-Type": "application/x-ndjson"})
    assert answer.status_code == 202, answer.text
    view = town.until(lambda: done(town, answer.headers["Location"]))
    assert view["counts"]["sent"] == 60
    assert [row["copies"] for n in range(60) for row in town.sent(f"{name} {n}")] == [1] * 60


def test_mails_of_a_batch_can_be_looked_up(town: Town) -> None:
    """A mail of a batch is found by its own id."""
    own = f"line-{uuid.uuid4().hex}"
    answer = town.api.post("batches", json=[town.mail(id=own)])
    town.until(lambda: done(town, answer.headers["Location"]))
    view = town.api.get(f"messages/{own}").json()
    assert (view["status"], view["line"]) == ("sent", 1)


def test_one_bad_line_refuses_the_batch(town: Town) -> None:
    """A bad line is named with its field, and nothing of the batch is sent."""
    name = f"Bad {uuid.uuid4().hex[:12]}"
    lines = [town.mail(subject=name), town.mail(subject=name, to=["ann"]), town.mail(subject=name)]
    answer = town.api.post("batches", content="\n".join(map(json.dumps, lines)))
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400, "address_without_domain", "line 2: to[0]")
    assert town.sent(name) == []


def test_partial_sends_the_good_lines(town: Town) -> None:
    """With ?partial=true the good lines go, and the refused ones are listed with line and code."""
    lines = [town.mail(), {"account": town.billing}, "not an object"]
    answer = town.api.post("batches", json=lines, params={"partial": "true"})
    view = town.until(lambda: done(town, answer.headers["Location"]))
    assert (view["counts"]["sent"], view["counts"]["refused"]) == (1, 2)
    assert [(one["line"], one["code"]) for one in view["refused"]] == [(2, "recipients_none"), (3, "field_type")]


def test_a_repeated_batch_is_the_same_batch(town: Town) -> None:
    """The same Idempotency-Key and body give the same batch, sent once."""
    name, key = f"Once {uuid.uuid4().hex[:12]}", {"Idempotency-Key": uuid.uuid4().hex}
    first, again = (town.api.post("batches", json=[town.mail(subject=name)], headers=key) for _ in range(2))
    assert first.json()["id"] == again.json()["id"]
    town.until(lambda: done(town, first.headers["Location"]))
    assert [row["copies"] for row in town.sent(name)] == [1]


def test_ids_that_repeat_in_a_batch_are_refused(town: Town) -> None:
    """Two mails under one id are a mistake that is named before anything is sent."""
    answer = town.api.post("batches", json=[town.mail(id="twice"), town.mail(id="twice")])
    assert (answer.status_code, answer.json()["code"]) == (400, "id_repeated")


def test_a_batch_with_nothing_in_it_is_refused(town: Town) -> None:
    """An empty array is a mistake, not an empty success."""
    assert town.api.post("batches", json=[]).json()["code"] == "batch_empty"
