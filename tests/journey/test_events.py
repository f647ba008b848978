"""The activity log of running functions: each event that operators build on, in its own circumstances, with the ids to follow it by."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from sandbox.accounts import Pace
from sandbox.services import CERTIFICATE
from tests.journey.own_town import EVERY_SECOND, Functions, OwnTown, new_subject, own_town
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
NEVER = "0 0 0 1 1 *"  # but on New Year's Day
QUIET = Pace(sweep=EVERY_SECOND, sync=NEVER, refresh=NEVER)  # who asks for a token is who sends a mail
TICKING = Pace(sweep=NEVER, sync=NEVER, refresh=EVERY_SECOND, renew_ahead=0)
DAY = 86_400

Event = dict[str, Any]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OwnTown]:
    async with own_town(tmp_path_factory.mktemp("events"), certificate=False) as town:
        yield town


def events(town: OwnTown) -> list[Event]:
    lines = (town.folder / "functions.log").read_text("utf-8", "replace").splitlines()
    return [json.loads(line[line.index("{") :]) for line in lines if " mailroom: {" in line]


async def told(town: OwnTown, name: str, fits: Callable[[Event], bool] = lambda _: True) -> Event:
    """The first such event, as soon as it is in the log."""
    found: list[Event] = await until(lambda: [one for one in events(town) if one["event"] == name and fits(one)])
    return found[0]


async def send(functions: Functions, town: OwnTown, **more: Any) -> Event:
    """The event of a mail's end; its id is new, so that it is found."""
    name = str(uuid.uuid4())
    mail = {"id": name, "account": town.billing, "to": ["ann@example.com"], "subject": new_subject(), "text": "Hello"} | more
    answer = await functions.send(**mail)
    assert answer.is_success or answer.status_code == 422, answer.text
    await functions.settled(name)
    return await told(town, "mail.refused" if answer.status_code == 422 else "mail.sent", lambda one: one["id"] == name)


def are_uuids(*found: str) -> bool:
    return [str(uuid.UUID(one)) for one in found] == list(found)


async def test_what_ends_soon_is_told(town: OwnTown) -> None:
    """The timer looks once a day; a certificate of a profile in use, with the days that are left."""
    town.services.vault_contents.create_certificate(CERTIFICATE).ends = int(town.services.directory.now() + 10.5 * DAY)
    async with town.functions(TICKING):
        expiring = await told(town, "credential.expiring")
    assert (expiring["kind"], expiring["name"], expiring["days"]) == ("certificate", CERTIFICATE, 10)
    assert expiring["function"] == "refresh_tokens"


async def test_a_refused_sign_in_names_its_number_and_its_ids(town: OwnTown) -> None:
    """That certificate is registered with nobody: the AADSTS code, what to do, and the ids that the tenant's sign-in log has."""
    async with town.functions(QUIET) as functions:
        mail = {"account": town.billing, "to": ["ann@example.com"], "subject": new_subject(), "text": "Hello"}
        answer = await functions.send(**mail)
        assert answer.json()["status"] == "pending"
        rejected = await told(town, "token.rejected")
    town.services.make_certificate()
    assert (rejected["by"], rejected["code"], rejected["profile"]) == ("authority", "aadsts_700027", "sandbox")
    assert rejected["next_step"].startswith("Register the newest version")
    assert are_uuids(rejected["trace_id"], rejected["correlation_id"])


async def test_the_events_of_an_invocation_share_its_ids(town: OwnTown) -> None:
    """A caller's traceparent is found in all that its request caused; the token's ids are Entra's, the mail's Graph's and ours."""
    async with town.functions(QUIET) as functions:
        await send(functions, town)
        town.services.directory.revoke_all(town.services.directory.app("graph").client_id)
        functions.http.headers["traceparent"] = f"00-{TRACE}-00f067aa0ba902b7-01"
        sent = await send(functions, town)
        fetched = await told(town, "token.fetched", lambda one: TRACE in one["traceparent"])
        del functions.http.headers["traceparent"]
        of_another = await send(functions, town)
    assert are_uuids(sent["request_id"], sent["client_request_id"], fetched["trace_id"], fetched["correlation_id"], sent["invocation"])
    assert (sent["account"], sent["path"], sent["attempt"], sent["function"]) == (town.billing, "sendMail", 1, "post_message")
    shared = ("function", "invocation", "traceparent")
    assert [fetched[name] for name in shared] == [sent[name] for name in shared]
    assert sent["traceparent"].split("-")[1] == TRACE
    assert of_another["invocation"] != sent["invocation"]
    assert TRACE not in of_another["traceparent"]


async def test_a_restart_reuses_the_token_and_graph_refuses_it(town: OwnTown) -> None:
    """The sealed cache outlives the process; what Graph refuses is barred, and the same invocation fetches another one."""
    async with town.functions(QUIET) as functions:
        await send(functions, town)
    async with town.functions(QUIET) as functions:
        await send(functions, town)
        reused = [one for one in events(town) if one["event"] == "token.reused" and one["profile"] == "sandbox"][-1]
        town.services.directory.revoke_all(town.services.directory.app("graph").client_id)
        sent = await send(functions, town)
        here = [one for one in events(town) if one["invocation"] == sent["invocation"]]
    assert [one["event"] for one in here] == ["token.rejected", "token.fetched", "mail.sent"]
    assert (here[0]["by"], here[0]["token"]) == ("provider", reused["token"])
    assert here[1]["token"] != reused["token"]


async def test_the_timer_refreshes(town: OwnTown) -> None:
    """Ahead of its end a token is replaced; Entra's ids are there."""
    async with town.functions(dataclasses.replace(TICKING, renew_ahead=4000)):
        refreshed = await told(town, "token.refreshed", lambda one: one["profile"] == "sandbox")
    assert refreshed["function"] == "refresh_tokens"
    assert are_uuids(refreshed["trace_id"], refreshed["correlation_id"])


async def test_throttled_and_refused_mails_name_graphs_request(town: OwnTown) -> None:
    """429 and what it asks for; a refusal with its code. Both have the ids that Microsoft's support asks for."""
    async with town.functions(QUIET) as functions:
        town.services.faults.add({"service": "graph", "path": "sendMail", "answer": "429", "retry_after": 1, "times": 1})
        sent = await send(functions, town)
        throttled = await told(town, "mail.throttled", lambda one: one["id"] == sent["id"])
        town.services.faults.add({"service": "graph", "path": "sendMail", "answer": "400", "times": 1})
        refused = await send(functions, town)
        town.services.faults.add({"service": "graph", "path": "sendMail", "answer": "cut", "after_accepting": True, "times": 1})
        lost = await send(functions, town)
        in_doubt = await told(town, "mail.in_doubt", lambda one: one["id"] == lost["id"])
    assert (throttled["code"], throttled["function"]) == ("throttled", "post_message")
    assert throttled["seconds"] >= 1
    assert sent["function"] == "deliver_mail"
    assert refused["code"] == "provider_refused"
    assert are_uuids(throttled["client_request_id"], refused["client_request_id"], in_doubt["client_request_id"])
    assert "request_id" not in in_doubt, "the answer was lost, and Graph's name with it"
