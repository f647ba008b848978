"""What shall go later, through the real triggers: it waits, and goes when its time has come."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.journey.conftest import Town
from tests.journey.test_batches import done

pytestmark = pytest.mark.slow


def test_a_batch_waits_for_its_time(town: Town) -> None:
    """A batch for eight seconds from now, told in the time of Kathmandu, is pending until then, and sent once right after."""
    name = f"Later {uuid.uuid4().hex[:12]}"
    when = datetime.now(UTC) + timedelta(seconds=8)
    local = when.astimezone(ZoneInfo("Asia/Kathmandu")).replace(tzinfo=None).isoformat()
    answer = town.api.post("batches", json=[town.mail(subject=name)], params={"send_at": local, "time_zone": "Asia/Kathmandu"})
    assert answer.status_code == 202, answer.text
    view = answer.json()
    assert (view["counts"]["pending"], view["send_at"]) == (1, f"{when:%Y-%m-%dT%H:%M:%SZ}")
    town.until(lambda: town.sent(name))
    assert datetime.now(UTC) > when - timedelta(seconds=1)  # the answer's time has whole seconds, and so has storage's clock
    town.until(lambda: done(town, answer.headers["Location"]))
    assert [row["copies"] for row in town.sent(name)] == [1]


def test_a_time_without_a_zone_is_refused(town: Town) -> None:
    """It may be any of many moments, so the answer asks which; also in the object of a template."""
    answer = town.api.post("batches", json=[town.mail()], params={"send_at": "2026-12-24T09:00:00"})
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400, "time_zone_missing", "send_at")
    whole = {
        "template": {"account": town.billing, "to": ["{{ email }}"]},
        "recipients": [{"email": "ann@example.com"}],
        "time_zone": "Europe/Berlin",
    }
    answer = town.api.post("batches", json=whole)
    assert (answer.status_code, answer.json()["field"]) == (400, "send_at")
