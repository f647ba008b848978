"""A token that is refused in the middle of a batch: what went has gone, the rest goes with a new one, and no mail goes twice."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from sandbox.services import MAILBOXES, ORDERS, REPORTS
from tests.journey.conftest import Town

pytestmark = pytest.mark.slow

REFUSED: dict[str, dict[str, Any]] = {
    MAILBOXES[0]: {"service": "graph", "path": "sendMail", "answer": "401", "times": 7},  # inside of one `$batch`
    ORDERS: {"service": "google", "path": "messages/send", "answer": "401", "times": 3},
    REPORTS: {"service": "smtp", "path": "mail", "answer": "530 5.7.57 Client not authenticated to send mail", "times": 1},
}


@pytest.mark.parametrize("account", REFUSED)
def test_the_rest_of_a_batch_goes_with_a_new_token(town: Town, account: str) -> None:
    """Twenty-five mails, two slices; each is sent, each once."""
    name = f"Mid-batch {uuid.uuid4().hex[:12]}"
    town.fault(**REFUSED[account])
    batch = town.api.post("batches", json=[town.mail(account=account, subject=f"{name} {n}") for n in range(25)]).json()
    town.until(lambda: town.api.get(f"batches/{batch['id']}").json()["counts"]["sent"] == 25)
    assert [row["copies"] for n in range(25) for row in town.sent(f"{name} {n}")] == [1] * 25
    struck = town.plain.get(f"{town.told['control']}/faults").json()
    assert [fault["hits"] for fault in struck] == [REFUSED[account]["times"]]
