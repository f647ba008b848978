"""docs/errors.md lists every stable code that the API and the command line answer with, each with its cause and what to do."""

from __future__ import annotations

import re

from tests.unit.error_page import CAUSES, MEANINGS, PAGE, STEPS, page
from tests.unit.raised import numbers, problems


def test_the_page_is_the_code() -> None:
    """Whoever raises another code, or says something else: `python -m tests.unit.error_page` writes the page anew."""
    assert PAGE.read_text("utf-8") == page()


def test_codes_are_for_programs() -> None:
    """Small letters, digits and underscores: what no program has to escape."""
    assert not [one.code for one in problems() if not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", one.code)]


def test_nothing_is_told_of_what_is_gone() -> None:
    """Words that were written for a code leave with it."""
    known = {one.code for one in problems()}
    assert known >= {*CAUSES, *STEPS}
    assert MEANINGS.keys() == numbers().keys()
