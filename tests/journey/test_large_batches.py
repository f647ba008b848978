"""Batches that no request could carry: uploaded, accepted in the background through the real triggers, worked off, each mail once."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter
from typing import Any

import httpx
import pytest

from sandbox.accounts import Pace
from tests.journey.conftest import Town
from tests.journey.own_town import EVERY_SECOND, Functions, OwnTown, own_town
from tests.journey.test_batches import done
from tests.journey.test_uploads import uploaded

pytestmark = pytest.mark.slow

MAILS = 3000
KILLED = 600
PACE = Pace(sweep=EVERY_SECOND, sync=EVERY_SECOND, claim=7, call=4, grace=1)
LEASE = 2.0  # seconds, after which another worker gets a dead one's ticket


def ended(town: Town, answer: httpx.Response) -> Any:
    """The batch once it is accepted, refused or cancelled."""
    assert answer.status_code == 202, answer.text
    where = answer.headers["Location"].removeprefix("/api/")
    return town.until(lambda: view if (view := town.api.get(where).json())["status"] != "accepting" else None)


def counted(town: Town, name: str) -> list[int]:
    """How often each mail was sent whose subject begins so."""
    rows = town.plain.get(f"{town.told['control']}/sent").raise_for_status().json()
    return [row["copies"] for row in rows if row["subject"].startswith(name)]


def test_three_thousand_lines_are_accepted_and_sent_once(town: Town) -> None:
    """Of two mailboxes; the answer comes at once, the same key gives the same batch, and mails are found by their own ids."""
    name, own = f"Large {uuid.uuid4().hex[:12]}", uuid.uuid4().hex
    accounts = (town.billing, town.support)
    mails = [town.mail(account=accounts[at % 2], subject=f"{name} {at}", id=f"{own}-{at}") for at in range(MAILS)]
    blob = uploaded(town, "\n".join(map(json.dumps, mails)).encode())
    order, key = {"blob": blob, "format": "ndjson"}, {"Idempotency-Key": own}
    answer = town.api.post("batches", json=order, headers=key)
    assert (answer.status_code, answer.json()["status"]) == (202, "accepting"), answer.text
    assert town.api.post("batches", json=order, headers=key).headers["Location"] == answer.headers["Location"]
    assert ended(town, answer)["status"] == "accepted"
    view = town.until(lambda: done(town, answer.headers["Location"]), 180)
    assert view["counts"]["sent"] == MAILS
    assert counted(town, name) == [1] * MAILS
    assert town.api.get(f"messages/{own}-{MAILS - 1}").json()["line"] == MAILS
    assert town.api.post("batches", json=order, headers=key).json()["id"] == view["id"]


def test_one_bad_line_refuses_them_all(town: Town) -> None:
    """It is named with its line and field, and nothing is sent; with partial the others go."""
    name = f"Bad {uuid.uuid4().hex[:12]}"
    mails = [town.mail(subject=name, to=["ann"] if at == 20 else ["ann@example.com"]) for at in range(40)]
    blob = uploaded(town, "\n".join(map(json.dumps, mails)).encode())
    order = {"blob": blob, "format": "ndjson"}
    view = ended(town, town.api.post("batches", json=order))
    assert (view["status"], view["code"], view["field"]) == ("refused", "address_without_domain", "line 21: to[0]")
    assert counted(town, name) == []
    answer = town.api.post("batches", json=order | {"partial": True})
    assert ended(town, answer)["status"] == "accepted"
    view = town.until(lambda: done(town, answer.headers["Location"]))
    assert (view["counts"]["sent"], [one["line"] for one in view["refused"]]) == (39, [21])


def test_a_csv_with_a_template(town: Town) -> None:
    """Three hundred customers with a byte order mark, semicolons and line breaks in cells each get their own mail."""
    name = f"Table {uuid.uuid4().hex[:12]}"
    rows = [f'"Ann\r\nNo. {at}";ann{at}@example.com;{at}' for at in range(300)]
    blob = uploaded(town, ("\ufeff" + "\r\n".join(["name;email;number", *rows])).encode())
    template = {"account": [town.billing, town.support], "to": ["{{ email }}"], "subject": f"{name} {{{{ number }}}}", "text": "{{ name }}"}
    answer = town.api.post("batches", json={"blob": blob, "format": "csv", "template": template})
    assert ended(town, answer)["status"] == "accepted"
    assert town.until(lambda: done(town, answer.headers["Location"]))["counts"]["sent"] == 300
    assert counted(town, name) == [1] * 300


def test_what_is_wrong_with_the_order_is_told_at_once(town: Town) -> None:
    """An upload that is not there, one that is no NDJSON, and a dry run of what may hold a million mails."""
    blob = uploaded(town, b'[{"account": "billing"}]')
    wrong: list[tuple[dict[str, Any], dict[str, str], str]] = [
        ({"blob": "nowhere", "format": "ndjson"}, {}, "upload_missing"),
        ({"blob": blob, "format": "ndjson"}, {}, "not_ndjson"),
        ({"blob": blob, "format": "ndjson"}, {"dry_run": "true"}, "dry_run_of_upload"),
    ]
    for order, query, code in wrong:
        answer = town.api.post("batches", json=order, params=query)
        assert (answer.status_code, answer.json()["code"]) == (400, code)


@pytest.mark.asyncio
async def test_the_functions_are_killed_again_and_again_while_they_accept(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nine times, at once after they start; then every mail of the batch goes, once."""
    async with own_town(tmp_path_factory.mktemp("large")) as town:
        async with town.functions(PACE, lease=LEASE) as functions:
            where = await posted(town, functions)
            await functions.kill()
        for after in range(8):
            async with town.functions(PACE, lease=LEASE) as functions:
                await asyncio.sleep(0.25 * after)
                await functions.kill()
        async with town.functions(PACE, lease=LEASE) as functions:
            counts = await sent(functions, where)
        assert counts["sent"] == KILLED
        rows = (await town.http.get(f"{town.services.control}/sent")).json()
        assert Counter(row["copies"] for row in rows) == {1: KILLED}


async def posted(town: OwnTown, functions: Functions) -> str:
    mails = [{"account": town.billing, "to": ["ann@example.com"], "subject": f"Mail {at}", "id": f"m{at}"} for at in range(KILLED)]
    told = (await functions.http.post("attachments")).json()
    async with httpx.AsyncClient(trust_env=False) as anybody:
        body = "\n".join(map(json.dumps, mails)).encode()
        (await anybody.put(told["url"], content=body, headers=told["headers"])).raise_for_status()
    answer = await functions.http.post("batches", json={"blob": told["blob"], "format": "ndjson"})
    assert answer.status_code == 202, answer.text
    return answer.headers["Location"].removeprefix("/api/")


async def sent(functions: Functions, where: str) -> dict[str, int]:
    """The counts once nothing is owed."""
    async with asyncio.timeout(120):
        while True:
            view = (await functions.http.get(where)).json()
            counts: dict[str, int] = view.get("counts", {})
            if counts and not any(counts[name] for name in ("pending", "sending", "in_doubt")):
                return counts
            await asyncio.sleep(0.2)
