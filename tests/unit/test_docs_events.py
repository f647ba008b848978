"""docs/events.md lists what the code records: each event with its level and its fields, and none that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

from tests.unit.recorded import Event, events

PAGE = Path(__file__).parents[2] / "docs/events.md"
ROW = re.compile(r"^\| `([a-z_]+\.[a-z_]+)` \| (\w+) \| ([a-z_, ]+) \| (.+) \|$", re.MULTILINE)
PROMISED = {
    *("token.fetched", "token.reused", "token.refreshed", "token.rejected"),
    *("mail.sent", "mail.refused", "mail.throttled", "credential.expiring"),
}


def on_the_page() -> dict[str, Event]:
    return {name: Event(level, frozenset(fields.split(", "))) for name, level, fields, _ in ROW.findall(PAGE.read_text("utf-8"))}


def test_the_page_is_the_code() -> None:
    """Whoever adds an event, or a fact to one, tells of it here."""
    assert on_the_page() == events()


def test_each_event_stands_once() -> None:
    """One row for each name, and what a row can't be read as is not taken for one that is missing."""
    names = [row[0] for row in ROW.findall(PAGE.read_text("utf-8"))]
    assert len(names) == len(set(names)) == len(re.findall(r"^\| `", PAGE.read_text("utf-8"), re.MULTILINE)) - 2  # of the ids' table


def test_what_operators_build_on_is_there() -> None:
    """Alerts are written on these names."""
    assert events().keys() >= PROMISED
