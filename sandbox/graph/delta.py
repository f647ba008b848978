"""The delta query on a folder's messages: learn.microsoft.com/graph/api/message-delta, graph/delta-query-messages.

A round is what changed since the last one, taken when the round begins; what changes meanwhile comes in the next, so an item may come
twice. Links come back in another shape than was asked for, and hold the options of the first request.
"""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from sandbox.graph import messages, query
from sandbox.graph.call import Answer, Call
from sandbox.graph.errors import GraphError, bad_query, bad_request
from sandbox.graph.items import Folder, Item
from sandbox.graph.query import Query

FILTERED_MOST = 5000
KEPT = 50_000  # tokens fall out of a cache that is bounded by its size
CHANGES = ("created", "updated", "deleted")
FIRST = -1
_SINCE = re.compile(r"\s*receivedDateTime\s+g[te]\s+\S+\s*")


@dataclass(frozen=True, slots=True)
class State:
    """`rest` are numbers of items still to come in this round, which began at `count`; the round before it ended at `since`."""

    folder: Folder
    asked: Query
    change: str | None
    size: int | None
    since: int = FIRST
    count: int = 0
    rest: tuple[int, ...] = ()
    at: int = 0


class Deltas:
    def __init__(self) -> None:
        self._states: OrderedDict[str, State] = OrderedDict()
        self.gone = True

    def forget(self, *, gone: bool = True) -> None:
        """Every token; the next one that comes is answered with 410, or else with 404 syncStateNotFound."""
        self._states.clear()
        self.gone = gone

    async def handle(self, call: Call) -> Answer:
        skip, delta = call.options.get("$skiptoken"), call.options.get("$deltatoken")
        if skip:
            state = self._recall(call, skip)
        elif delta and delta.lower() != "latest":
            state = _round(call, self._recall(call, delta))
        else:
            state = _round(call, _first(call))
        return self._page(call, state)

    def _page(self, call: Call, state: State) -> Answer:
        size = call.prefer.page_size or state.size or query.PAGE
        value: list[dict[str, Any]] = []
        while state.at < len(state.rest) and len(value) < size:
            value += _shown(call, state, state.rest[state.at])
            state = replace(state, at=state.at + 1)
        body: dict[str, Any] = {"@odata.context": call.context(f"mailFolders('{_named(state.folder)}')/messages/$delta")}
        if state.at < len(state.rest):
            body["@odata.nextLink"] = self._link(call, state, "$skiptoken")
        else:
            ended = replace(state, since=state.count, rest=(), at=0)
            body["@odata.deltaLink"] = self._link(call, ended, "$deltatoken")
        return Answer(200, {**body, "value": value})

    def _link(self, call: Call, state: State, option: str) -> str:
        token = secrets.token_urlsafe(48)
        self._states[token] = state
        if len(self._states) > KEPT:
            self._states.popitem(last=False)
        return f"{call.here}/mailFolders('{quote(_named(state.folder), safe='')}')/messages/delta?{quote(option)}={token}"

    def _recall(self, call: Call, token: str) -> State:
        state = self._states.get(token)
        if state is not None and state.folder.id in call.box.folders:
            return state
        if self.gone:
            afresh = f"{call.here}/mailFolders('{quote(call.keys[0], safe='')}')/messages/delta"
            raise GraphError(
                410, "resyncRequired", "Resync required. Replace any local items with the server's version.", {"Location": afresh}
            )
        raise GraphError(404, "syncStateNotFound", "The sync state generation is not found; continuation is not possible.")


def _first(call: Call) -> State:
    allowed = {name: value for name, value in call.options.items() if name not in ("$skip", "$count")}
    asked = query.read(allowed)
    messages.check_basic(call, asked)
    if asked.order and asked.order != (("receivedDateTime", True),):
        raise bad_query("Only $orderby=receivedDateTime desc is supported by the delta query.")
    if asked.filter and not _SINCE.fullmatch(allowed["$filter"]):
        raise bad_query("Only $filter=receivedDateTime ge or gt is supported by the delta query.")
    change = next((value for name, value in call.options.items() if name.lower() == "changetype"), None)
    if change is not None and change.lower() not in CHANGES:
        raise bad_request(f"The change type '{change}' is not known.", "ErrorInvalidUrlQuery")
    return State(call.box.folder(call.keys[0]), asked, change.lower() if change else None, asked.top)


def _round(call: Call, state: State) -> State:
    """All that changed since the last one, or, the first time, all there is: newest first, as a client would show it."""
    if state.since == FIRST:
        numbers = [item.number for item in state.folder.newest_first() if _passes(state, item)]
        numbers = numbers[:FILTERED_MOST] if state.asked.filter else numbers
    else:
        numbers = state.folder.changed_since(state.since)
    return replace(state, count=call.box.count, rest=tuple(numbers), at=0)


def _shown(call: Call, state: State, number: int) -> Iterator[dict[str, Any]]:
    item = state.folder.items.get(number)
    left = state.folder.departure(number, state.since)
    if left and state.change in (None, "deleted"):
        removed = left.immutable_id if call.prefer.immutable else left.id
        yield {"@odata.type": "#microsoft.graph.message", "@removed": {"reason": left.reason}, "id": removed}
    if item is None or not _passes(state, item) or not _wanted(state, item):
        return
    back = left is not None and call.prefer.immutable and item.changed == item.arrived
    if not back:  # moved out and back it is lost to who knows it by its immutable id: microsoft-graph-docs-contrib issue 72
        yield call.show(item, state.asked.shape) | {"@odata.type": "#microsoft.graph.message"}


def _wanted(state: State, item: Item) -> bool:
    change = "created" if item.arrived > state.since else "updated"
    return state.change is None or state.since == FIRST or state.change == change


def _passes(state: State, item: Item) -> bool:
    return state.asked.filter is None or state.asked.filter.matches(item)


def _named(folder: Folder) -> str:
    return folder.name.replace(" ", "") if folder.well_known else folder.id
