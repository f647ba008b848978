"""The Table service: rows read, queried and changed (`ports.Store`, its first third)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx
import msgspec

from mailroom.errors import StorageConflict
from mailroom.model.row import Change, Row
from mailroom.storage import changes as transactions
from mailroom.storage import entities
from mailroom.storage.changes import Outcome
from mailroom.storage.wire import Call, Wire, code_of, failure, unreadable

T = TypeVar("T")

TRANSACTION_LIMIT = 100
PAGE_LIMIT = 1000

_READ = {"accept": "application/json;odata=minimalmetadata"}
_NOT_FOUND = frozenset({404})
_CONFLICTS = frozenset({404, 409, 412})
_LOST = frozenset({"ConditionNotMet", "EntityAlreadyExists", "EntityNotFound", "ResourceNotFound", "UpdateConditionNotSatisfied"})


class _Page(msgspec.Struct, frozen=True):
    value: list[dict[str, Any]]


class Tables:
    _wire: Wire

    async def get_row(self, table: str, partition: str, key: str) -> Row | None:
        path = entities.address(table, partition, key)
        call = Call("get row", "table", table, "GET", path, _READ, expected=_NOT_FOUND, repeats=True)
        response = await self._wire.call(call)
        if response.status_code == 404:
            return None
        return entities.decode(_read(call, response, dict[str, Any]), response.headers.get("etag", ""))

    async def query(self, table: str, partition: str, first: str = "", last: str = "", *, top: int | None = None) -> list[Row]:
        rows: list[Row] = []
        chosen = f"/{table}()?$filter={entities.selection(partition, first, last)}"
        further = ""
        while top is None or len(rows) < top:
            size = PAGE_LIMIT if top is None else min(PAGE_LIMIT, top - len(rows))
            path = f"{chosen}&$top={size}{further}"
            found, further = await self._page(table, path)
            rows += found
            if not further:
                break
        return rows

    async def old_rows(self, table: str, before: float, after: str = "") -> tuple[list[Row], str]:
        return await self._page(table, f"/{table}()?$filter={entities.created_before(before)}{after}")

    async def _page(self, table: str, path: str) -> tuple[list[Row], str]:
        call = Call("query", "table", table, "GET", path, _READ, expected=_NOT_FOUND, repeats=True)
        response = await self._wire.call(call)
        if response.status_code == 404:
            return [], ""
        return list(map(entities.decode, _read(call, response, _Page).value)), _continuation(response.headers)

    async def write(self, table: str, changes: Sequence[Change]) -> list[str]:
        if len(changes) > TRANSACTION_LIMIT or len({change.row.partition for change in changes}) > 1:
            raise ValueError(f"a transaction takes at most {TRANSACTION_LIMIT} changes of one partition")
        if not changes:
            return []
        call = self._call(table, changes)
        outcomes = await self._outcomes(call, len(changes))
        if outcomes[0].code == "TableNotFound":  # a certain refusal: nothing was written
            await self._wire.make("table", table)
            outcomes = await self._outcomes(call, len(changes))
        failed = next((outcome for outcome in outcomes if outcome.status >= 400), None)
        if failed is not None:
            return await self._without(call, changes, failed)
        return [outcome.etag for outcome in outcomes]

    def _call(self, table: str, changes: Sequence[Change]) -> Call:
        alone = len(changes) == 1
        asked = transactions.request(table, changes[0]) if alone else transactions.transaction(self._wire.base("table"), table, changes)
        expected = _CONFLICTS if alone else frozenset[int]()
        repeats = all(map(transactions.unconditional, changes))
        return Call("write", "table", table, asked.method, asked.path, asked.headers, asked.body, expected, repeats)

    async def _outcomes(self, call: Call, count: int) -> list[Outcome]:
        response = await self._wire.call(call)
        if count == 1:
            return [Outcome(response.status_code, response.headers.get("etag", ""), "" if response.is_success else code_of(response))]
        outcomes = transactions.outcomes(response.content)
        if len(outcomes) != count and not (outcomes and outcomes[0].status >= 400):
            raise unreadable(call)
        return outcomes

    async def _without(self, call: Call, changes: Sequence[Change], failed: Outcome) -> list[str]:
        """Nothing was written, because of one change. If it only wanted a row gone that is gone, the others go without it."""
        at = 0 if len(changes) == 1 else failed.index
        if failed.status == 404 and at is not None and changes[at].verb == "delete" and not changes[at].row.etag:
            etags = await self.write(call.place, [*changes[:at], *changes[at + 1 :]])
            return [*etags[:at], "", *etags[at:]]
        if failed.status == 412 or failed.code in _LOST:
            verb = "a transaction" if at is None else changes[at].verb
            raise StorageConflict("storage_conflict", f"{verb} on {call.place} lost ({failed.code}).")
        raise failure(call, failed.status, failed.code)


def _read(call: Call, response: httpx.Response, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(response.content, type=kind)
    except msgspec.DecodeError as error:
        raise unreadable(call) from error


def _continuation(headers: httpx.Headers) -> str:
    """Where the next page starts; it may say only the partition."""
    names = ("NextPartitionKey", "NextRowKey")
    found = {name: headers[f"x-ms-continuation-{name}"] for name in names if f"x-ms-continuation-{name}" in headers}
    return f"&{urlencode(found)}" if found else ""
