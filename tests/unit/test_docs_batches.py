"""docs/batches.md: what its examples show is what happens, and its bounds and filters are those of the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from jinja2.filters import FILTERS

from send_mail import bounds, templates
from send_mail.posted import Poster
from tests.sending import Room

PAGE = (Path(__file__).parents[2] / "docs/batches.md").read_text("utf-8")
EXAMPLES = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)


def numbers(text: str) -> set[int]:
    return {int(one.replace(",", "")) for one in re.findall(r"\d[\d,]*", text)}


@pytest.mark.parametrize("example", EXAMPLES)
async def test_each_example_is_drawn_for_everybody(example: str) -> None:
    """Nothing of it is refused, and its mails say what the page promises of them."""
    room = Room()
    room.deliver.accounts["billing2"] = room.account  # type: ignore[index]  # the room's own dictionary
    posted = await Poster(room.accept, "caller", lambda account: None).read(example.encode())
    assert posted.refused == []
    assert len(posted.lines) == example.count("@example.com")
    first: Any = posted.lines[0].message
    assert [one.address for one in first.to] == ["ann@example.com"]
    if first.id:
        assert (first.id, first.text) == ("invoice-117", "Dear Lee, Ann,\n\nCup: 1,234.50\n")


def test_there_are_examples() -> None:
    """So that the promise above is not kept by a page without any."""
    assert len(EXAMPLES) == 3


def test_the_bounds_are_the_codes() -> None:
    """Each bound of the table is a constant."""
    table = PAGE.partition("| bound | |")[2].partition("\n\n")[0]
    expected = {bounds.STEPS, int(bounds.SECONDS), int(templates.BATCH_SECONDS), bounds.LARGEST, templates.TEMPLATE_LIMIT}
    assert expected <= numbers(table)
    assert numbers(table) <= expected | {64}


def test_the_filters_that_are_not_there_are_listed() -> None:
    """Every filter of Jinja2 is available, or named as one that is not."""
    [line] = [line for line in PAGE.splitlines() if line.startswith("- Filters:")]
    left_out = set(re.findall(r"`(\w+)`", line.partition("Ours")[0]))
    environment = bounds.Bounded(bounds.Meter(), autoescape=False)
    assert left_out == FILTERS.keys() - environment.filters.keys()
