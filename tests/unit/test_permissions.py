"""The table of permissions: what the docs say is what the code says."""

from __future__ import annotations

from itertools import pairwise

import pytest

from cli import permissions
from mailroom.model.account import Traits
from mailroom.providers import gmail, graph

A, B, C = "a", "b", "c"


def one(*names: str) -> frozenset[str]:
    return frozenset(names)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ([], ()),
        ([one(A)], (A,)),
        ([one(B, C)], (B,)),
        ([one(A), one(B)], (A, B)),
        ([one(A, C), one(B, C)], (A, B)),
        ([one(A, B), one(B, C)], (B,)),
        ([one(A), one(B, C), one(C)], (A, C)),
    ],
)
def test_the_least_is_the_least_powerful(wanted: list[frozenset[str]], found: tuple[str, ...]) -> None:
    """Two lesser permissions are less than a greater one; one that does for both is less than that one and another."""
    assert permissions.least(Traits(permissions=(A, B, C)), wanted) == found


def test_the_page_holds_the_table() -> None:
    """docs/permissions.md has what `python -m cli.permissions` writes, and no other table."""
    page = permissions.PAGE.read_text()
    inside = page.partition(permissions.BEGIN)[2].partition(permissions.END)[0]
    assert inside.strip() == permissions.table().strip(), "run python -m cli.permissions"
    assert page.count("\n| ") == permissions.table().count("\n| ") + 1


def test_graph_needs_writing_for_large_mails_alone() -> None:
    """Small mails go with Mail.Send, whatever their number; with both, reading comes with writing."""
    found = {need.what: (need.limit, need.least) for need in permissions.needs() if need.provider == "graph"}
    assert found["send a mail that fits one request"] == (4 * 1024 * 1024, ("Mail.Send",))
    assert found["send a mail with uploaded attachments"] == (150 * 1024 * 1024, ("Mail.Send", "Mail.ReadWrite"))
    assert found["receive"] == (0, ("Mail.Read",))
    assert found["all of it"] == (0, ("Mail.Send", "Mail.ReadWrite"))


def test_every_provider_has_its_rows() -> None:
    """Each is there, in order, and says no permission that an account of it may not declare."""
    needs = permissions.needs()
    assert {need.provider for need in needs} >= {"gmail", "graph", "relay", "smtp"}
    assert all(a.provider <= b.provider for a, b in pairwise(needs))
    declared = {"graph": graph.TRAITS.permissions, "gmail": gmail.TRAITS.permissions}
    assert all({*need.least} <= {*declared[need.provider]} for need in needs if need.provider in declared)


def test_smtp_names_what_its_sign_in_needs() -> None:
    """Its accounts declare nothing; what a token must hold differs by who signs in and by the preset, and so does the size."""
    found = {need.what: (need.least, need.limit // 1024 // 1024) for need in permissions.needs() if need.provider == "smtp"}
    assert found == {
        "send as an application, to Exchange Online": (("SMTP.SendAsApp",), 150),
        "send as a person, to Exchange Online": (("SMTP.Send",), 150),
        "send by High Volume Email": (("Mail.Send",), 10),
        "send by Gmail": (("https://mail.google.com/",), 34),
    }
    assert [need.least for need in permissions.needs() if need.provider == "relay"] == [()]
