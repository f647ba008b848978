"""The sandbox's delta query: what is new, changed, moved and gone since the last walk, and tokens that are forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from tests.contract.sandbox_graph import IMMUTABLE, City, Office, city, fine, link, refused, with_stamp

pytestmark = pytest.mark.asyncio(loop_scope="module")

DELTA = "mailFolders/inbox/messages/delta"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[City]:
    async with city(tmp_path_factory.mktemp("city")) as served:
        yield served


@pytest.fixture
def office(town: City) -> Office:
    return town.office()


async def walk(office: Office, start: str = DELTA, headers: dict[str, str] | None = None) -> tuple[list[dict[str, Any]], str]:
    """All pages of a round, and the link to the next."""
    found: list[dict[str, Any]] = []
    page = await office.get(start, headers=headers or {})
    found += page["value"]
    while "@odata.deltaLink" not in page:
        page = await office.get(link(page), headers=headers or {})
        found += page["value"]
    return found, link(page)


async def arrive(office: Office, *subjects: str) -> list[dict[str, Any]]:
    """New mails in the inbox."""
    return [await office.receive(f"From: a@far.example\r\nSubject: {subject}\r\n\r\nHello\r\n".encode()) for subject in subjects]


async def move(office: Office, mail: dict[str, Any], to: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    return fine(await office.ask("POST", f"messages/{mail['id']}/move", json={"destinationId": to}, headers=headers), 201)


async def test_the_first_walk_sees_all(office: Office) -> None:
    """Page by page, newest first, each mail once; the next round is empty, and so is the one after."""
    await arrive(office, *(f"Mail {number}" for number in range(7)))
    page = await office.get(DELTA, headers={"Prefer": "odata.maxpagesize=3"})
    assert len(page["value"]) == 3
    assert "@odata.deltaLink" not in page
    found, following = await walk(office, headers={"Prefer": "odata.maxpagesize=3"})
    assert [one["subject"] for one in found] == [f"Mail {number}" for number in reversed(range(7))]
    assert (await walk(office, following))[0] == []
    assert (await walk(office, (await walk(office, following))[1]))[0] == []


async def test_what_happened_since(office: Office) -> None:
    """New and changed mails are shown, moved and deleted ones as removed; what came and went meanwhile is not mentioned."""
    changed, moved, deleted, gone, _ = await arrive(office, "Changed", "Moved", "Deleted", "Gone", "Quiet")
    _, following = await walk(office)
    [new, brief] = await arrive(office, "New", "Brief")
    fine(await office.ask("PATCH", f"messages/{changed['id']}", json={"isRead": True}), 200)
    await move(office, moved, "archive")
    await office.ask("DELETE", f"messages/{deleted['id']}")
    await office.ask("POST", f"messages/{gone['id']}/permanentDelete")
    await office.ask("POST", f"messages/{brief['id']}/permanentDelete")
    found, following = await walk(office, following)
    removed = {one["id"]: one["@removed"]["reason"] for one in found if "@removed" in one}
    assert removed == {moved["id"]: "changed", deleted["id"]: "changed", gone["id"]: "deleted"}
    assert {one["id"]: one["isRead"] for one in found if "@removed" not in one} == {new["id"]: False, changed["id"]: True}
    assert (await walk(office, following))[0] == []


async def test_an_old_link_answers_again(office: Office) -> None:
    """Whoever lost an answer asks once more and gets the same, and whatever happened after it."""
    _, first = await walk(office)
    await arrive(office, "One")
    await walk(office, first)
    await arrive(office, "Two")
    assert [one["subject"] for one in (await walk(office, first))[0]] == ["One", "Two"]


async def test_what_comes_during_a_walk_is_in_the_next(office: Office) -> None:
    """A round is what was there as it began."""
    await arrive(office, "One", "Two", "Three")
    page = await office.get(f"{DELTA}?$top=2")
    await arrive(office, "Late")
    found, following = await walk(office, link(page))
    assert [one["subject"] for one in page["value"] + found] == ["Three", "Two", "One"]
    assert [one["subject"] for one in (await walk(office, following))[0]] == ["Late"]


async def test_links_come_in_another_shape(office: Office) -> None:
    """users('…')/mailFolders('Inbox') with an escaped @ and $, whatever was asked; other spellings of them, and of delta, work too."""
    await arrive(office, "One")
    for path in (DELTA, "mailFolders('Inbox')/messages/delta()", "mailfolders/INBOX/messages/microsoft.graph.delta()"):
        found, following = await walk(office, path)
        assert [one["subject"] for one in found] == ["One"], path
        assert following.startswith(f"{office.city.url}/users('{quote(office.anna)}')/mailFolders('Inbox')/messages/delta?%24deltatoken=")
    await arrive(office, "Two")
    token = following.partition("=")[2]
    for spelled in (following, f"{DELTA}?$deltaToken={token}", f"{DELTA}?%24deltatoken={token}", f"{DELTA}()?$deltatoken={token}"):
        assert [one["subject"] for one in (await walk(office, spelled))[0]] == ["Two"], spelled
    page = await office.get(f"{DELTA}?$top=1")
    assert "/mailFolders('Inbox')/messages/delta?%24skiptoken=" in link(page)


async def test_options_stay_in_the_link(office: Office) -> None:
    """$select, $top and $expand of the first request shape every later page."""
    stamp = with_stamp("s1")["singleValueExtendedProperties"][0]["id"]
    expand = quote(f"singleValueExtendedProperties($filter=id eq '{stamp}')", safe="$")
    for subject in ("One", "Two", "Three"):
        await office.send(subject, **with_stamp(subject))
    where = f"mailFolders/sentitems/messages/delta?$select=subject&$top=1&$expand={expand}"
    found, following = await walk(office, where)
    await office.send("Four", **with_stamp("Four"))
    for one in [*found, *(await walk(office, following))[0]]:
        assert set(one) == {"@odata.type", "@odata.etag", "id", "subject", "singleValueExtendedProperties"}
        assert one["singleValueExtendedProperties"][0]["value"] == one["subject"]
    assert len(found) == 3


@pytest.mark.parametrize(
    ("change", "first", "then"),
    [("created", ["Old"], ["New"]), ("updated", ["Old"], ["Old"]), ("deleted", ["Old"], ["gone"])],
)
async def test_one_kind_of_change(office: Office, change: str, first: list[str], then: list[str]) -> None:
    """changeType, in any case, leaves the other kinds out of every round but the first."""
    [gone] = await arrive(office, "Gone")
    await office.ask("POST", f"messages/{gone['id']}/move", json={"destinationId": "archive"})
    [old, away] = await arrive(office, "Old", "Away")
    found, following = await walk(office, f"{DELTA}?changetype={change.upper()}&$select=subject")
    assert [one["subject"] for one in found] == ["Away", *first]
    await arrive(office, "New")
    fine(await office.ask("PATCH", f"messages/{old['id']}", json={"isRead": True}), 200)
    await move(office, away, "archive")
    assert [one.get("subject", "gone") for one in (await walk(office, following))[0]] == then


async def test_an_empty_folder_has_a_first_walk_too(office: Office) -> None:
    """After it, a new mail is created and not updated."""
    for change, expected in (("created", ["One"]), ("updated", [])):
        other = office.city.office()
        found, following = await walk(other, f"{DELTA}?changeType={change}")
        assert found == []
        await arrive(other, "One")
        assert [one["subject"] for one in (await walk(other, following))[0]] == expected


async def test_ids_of_either_kind(office: Office) -> None:
    """The preference decides, request by request; removed mails are named by the same kind."""
    [mail] = await arrive(office, "One")
    lasting = (await office.get(f"messages/{mail['id']}", headers=IMMUTABLE))["id"]
    found, following = await walk(office, headers=IMMUTABLE)
    assert [one["id"] for one in found] == [lasting]
    await move(office, mail, "archive")
    assert [one["id"] for one in (await walk(office, following, IMMUTABLE))[0]] == [lasting]
    assert [one["id"] for one in (await walk(office, following))[0]] == [mail["id"]]


async def test_moved_out_and_back(office: Office) -> None:
    """With immutable ids it is removed and then lost until it changes; with the usual ids it is removed and new."""
    [mail] = await arrive(office, "One")
    lasting = (await office.get(f"messages/{mail['id']}", headers=IMMUTABLE))["id"]
    _, following = await walk(office, headers=IMMUTABLE)
    await move(office, mail, "archive")
    back = await move(office, {"id": lasting}, "inbox")
    found, later = await walk(office, following, IMMUTABLE)
    assert [(one["id"], "@removed" in one) for one in found] == [(lasting, True)]
    assert (await walk(office, later, IMMUTABLE))[0] == []
    fine(await office.ask("PATCH", f"messages/{lasting}", json={"isRead": True}), 200)
    assert [(one["id"], "@removed" in one) for one in (await walk(office, later, IMMUTABLE))[0]] == [(lasting, False)]
    usual, _ = await walk(office, following)
    assert [(one["id"], "@removed" in one) for one in usual] == [(mail["id"], True), (back["id"], False)]


async def test_a_filter_by_date(office: Office) -> None:
    """receivedDateTime from a time on is the one filter there is, ordered newest first if at all; all others are refused."""
    await arrive(office, "Old")
    office.city.clock.ahead += 600
    [new] = await arrive(office, "New")
    since = quote(f"receivedDateTime ge {new['receivedDateTime']}")
    found, following = await walk(office, f"{DELTA}?$filter={since}&$orderby=receivedDateTime desc")
    assert [one["subject"] for one in found] == ["New"]
    await arrive(office, "Newer")
    assert [one["subject"] for one in (await walk(office, following))[0]] == ["Newer"]
    for options in (
        "$filter=isRead eq false",
        "$filter=receivedDateTime lt 2030-01-01",
        "$filter=receivedDateTime ge 2020-01-01 and receivedDateTime ge 2021-01-01",
        "$orderby=subject",
        "$orderby=receivedDateTime",
        "changeType=renamed",
        "$search=x",
        "$select=colour",
    ):
        assert refused(await office.ask("GET", f"{DELTA}?{options}"))[0] == 400, options


@pytest.mark.parametrize("gone", [True, False])
async def test_forgotten_tokens(office: Office, gone: bool) -> None:
    """410 with a Location that starts afresh, or 404 syncStateNotFound: in the middle of a round as between two."""
    await arrive(office, "One", "Two")
    [_, following], page = await walk(office), await office.get(f"{DELTA}?$top=1")
    office.city.graph.deltas.forget(gone=gone)
    for where in (following, link(page), f"{DELTA}?$deltatoken=made-up"):
        answer = await office.ask("GET", where)
        assert refused(answer) == ((410, "resyncRequired") if gone else (404, "syncStateNotFound"))
        if gone:
            assert len((await walk(office, answer.headers["location"]))[0]) == 2
    office.city.graph.deltas.forget()


async def test_a_link_is_one_mailboxs_own(office: Office) -> None:
    """In another mailbox its token is unknown, and without a good token of one's own it opens nothing."""
    _, following = await walk(office)
    answer = await office.ask("GET", f"{DELTA}?$deltatoken={following.partition('=')[2]}", user=office.ben)
    assert refused(answer) == (410, "resyncRequired")
    assert refused(await office.ask("GET", following, token="")) == (401, "InvalidAuthenticationToken")
    assert refused(await office.ask("GET", following, token=office.token("Mail.Send"))) == (403, "ErrorAccessDenied")


async def test_each_folder_has_its_chain(office: Office) -> None:
    """A mail that moves is removed in one and new in the other."""
    [mail] = await arrive(office, "One")
    _, inbox = await walk(office)
    _, archive = await walk(office, DELTA.replace("inbox", "archive"))
    moved = await move(office, mail, "archive")
    assert [one["id"] for one in (await walk(office, inbox))[0]] == [mail["id"]]
    [found] = (await walk(office, archive))[0]
    assert (found["id"], found["subject"]) == (moved["id"], "One")
