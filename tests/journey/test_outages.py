"""Graph or the authority fail while the functions run: what POST answers, and that each mail goes out once when they are well again."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.journey.conftest import Town

pytestmark = pytest.mark.slow


def subject() -> str:
    return f"Mail {uuid.uuid4().hex[:12]}"


def sent(town: Town, name: str) -> Any:
    view = town.api.get(f"messages/{name}").json()
    return view if view["status"] == "sent" else None


def test_graph_is_down(town: Town) -> None:
    """Graph cuts the connection, answers garbage, hangs, refuses: each mail is in doubt, asked for, and sent once."""
    codes = {"cut": "answer_lost", "garbage": "answer_unclear", "hang": "call_timeout", "503": "throttled"}  # the last pauses the lane
    for answer in codes:
        town.fault(service="graph", path="sendMail", answer=answer, times=1, retry_after=1)
    mails = {}
    for code in codes.values():
        view = town.api.post("messages", json=town.mail(subject=(name := subject()))).json()
        assert (view["status"], view["code"]) == ("in_doubt", code), view
        assert "by itself" in view["next_step"]
        mails[view["id"]] = name
    for name, about in mails.items():
        town.until(lambda name=name: sent(town, name))
        assert [row["copies"] for row in town.sent(about)] == [1]


@pytest.mark.parametrize(
    ("answer", "code", "step"),
    [
        ("503", "authority_busy", "check the profile's `cloud`"),
        ("html", "authority_gateway", "a proxy or a firewall"),
        ("garbage", "authority_unreadable", "Check the profile's `cloud`"),
        ("hang", "authority_timeout", "check the profile's `cloud`"),
    ],
)
def test_the_authority_is_down(town: Town, answer: str, code: str, step: str) -> None:
    """Our tokens are refused and new ones cannot be had: the mail is pending with the reason, and goes when they can."""
    name = subject()
    town.plain.post(f"{town.told['control']}/revoke", json={"app": "graph"}).raise_for_status()
    town.fault(service="entra", path="oauth2", answer=answer)
    view = town.api.post("messages", json=town.mail(subject=name)).json()
    assert (view["status"], view["code"]) == ("pending", code), view
    assert step in view["next_step"]
    assert town.sent(name) == []
    town.heal()
    town.until(lambda: sent(town, view["id"]))
    assert [row["copies"] for row in town.sent(name)] == [1]
