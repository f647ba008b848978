"""The other system query options, and what a request prefers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.graph import contract
from sandbox.graph import filter as filters
from sandbox.graph.errors import bad_query, bad_request
from sandbox.graph.filter import Filter
from sandbox.graph.items import Item, property_id

OPTIONS = ("$select", "$top", "$skip", "$filter", "$expand", "$count", "$orderby", "$search", "$format", "$skiptoken", "$deltatoken")
PAGE = 10
MOST = 1000
_EXPAND = re.compile(r"\s*(\w+)\s*(?:\(((?:'[^']*'|[^()']|\([^()]*\))*)\))?\s*(?:,|$)")
_PROPERTY = re.compile(r"(?:\w+/)?id eq '((?:[^']|'')*)'")
_DIGITS = re.compile(r"[0-9]{1,10}")
_PREFERENCE = re.compile(r"([\w.-]+)\s*=\s*(\"[^\"]*\"|[^,;\s]+)")


@dataclass(frozen=True, slots=True)
class Preferences:
    """RFC 7240; values may stand together in one header."""

    immutable: bool = False
    page_size: int | None = None
    text_body: bool = False

    @classmethod
    def read(cls, header: str) -> Preferences:
        named = {name.lower(): value.strip('"') for name, value in _PREFERENCE.findall(header)}
        size = named.get("odata.maxpagesize") or named.get("maxpagesize") or ""
        return cls(
            named.get("idtype", "").lower() == "immutableid",
            max(1, min(int(size), MOST)) if _DIGITS.fullmatch(size) else None,
            named.get("outlook.body-content-type", "").lower() == "text",
        )

    def applied(self) -> str:
        said = ['IdType="ImmutableId"'] if self.immutable else []
        said += [f"odata.maxpagesize={self.page_size}"] if self.page_size else []
        return ", ".join([*said, 'outlook.body-content-type="text"'] if self.text_body else said)


@dataclass(frozen=True, slots=True)
class Shape:
    """How an item is shown: `select` None is the usual set; `properties` and `several` (of many values) are names to expand."""

    select: frozenset[str] | None = None
    attachments: bool = False
    extensions: bool = False
    properties: tuple[str, ...] = ()
    several: tuple[str, ...] = ()

    @property
    def expands(self) -> bool:
        return self.attachments or self.extensions or bool(self.properties or self.several)


@dataclass(frozen=True, slots=True)
class Query:
    shape: Shape
    filter: Filter | None
    order: tuple[tuple[str, bool], ...]
    top: int | None
    skip: int
    count: bool


def options(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The system options by their names in small letters; the `$` may be left out. Other parameters stay as they are."""
    found: dict[str, str] = {}
    for name, value in pairs:
        plain = "$" + name.lower().removeprefix("$")
        known = plain if plain in OPTIONS else name
        if known.startswith("$") and known not in OPTIONS:
            raise bad_request(f"The query parameter '{name}' is not supported.")
        if known in found:
            raise bad_request(f"Query option '{name}' was specified more than once, but it must be specified at most once.")
        found[known] = value
    if "$search" in found:
        raise bad_query("The sandbox knows no $search.")
    return found


def read(given: Mapping[str, str]) -> Query:
    query = Query(
        shape(given),
        filters.parse(given["$filter"]) if "$filter" in given else None,
        _order(given.get("$orderby", "")),
        _number(given, "$top", 1, MOST),
        _number(given, "$skip", 0, 1 << 31) or 0,
        given.get("$count", "false").lower() == "true",
    )
    if query.filter and query.order and not _efficient(query.filter.paths, [path for path, _ in query.order]):
        raise bad_request("The restriction or sort order is too complex for this operation.", "InefficientFilter")
    return query


def shape(given: Mapping[str, str]) -> Shape:
    select = _select(given["$select"]) if given.get("$select") else None
    expanded = dict(_expanded(given.get("$expand", "")))
    single, several = (tuple(map(property_id, expanded.get(f"{many}ValueExtendedProperties", ()))) for many in ("single", "multi"))
    return Shape(select, "attachments" in expanded, "extensions" in expanded, single, several)


def sort(items: Iterable[Item], order: tuple[tuple[str, bool], ...]) -> list[Item]:
    found = list(items)
    for path, descending in reversed(order):
        found.sort(key=_sort_key(path), reverse=descending)
    return found


def _select(text: str) -> frozenset[str]:
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    known = {name.lower(): name for name in contract.TYPES["message"]}
    for name in names:
        if name.lower() not in known:
            raise bad_request(
                f"Parsing OData Select and Expand failed: Could not find a property named '{name}' on type 'microsoft.graph.message'."
            )
    return frozenset(known[name.lower()] for name in names) | {"id"}


def _expanded(text: str) -> Iterable[tuple[str, list[str]]]:
    at = 0
    while at < len(text):
        found = _EXPAND.match(text, at)
        if found is None or found[1] not in contract.NAVIGATION:
            raise bad_request(f"Parsing OData Select and Expand failed: '{text[at:]}' can't be expanded on type 'microsoft.graph.message'.")
        at = found.end()
        ids = [one.replace("''", "'") for one in _PROPERTY.findall(found[2] or "")]
        if found[1].endswith("ExtendedProperties") and not ids:
            raise bad_query(f"$expand on {found[1]} needs a $filter that names the id of each property.")
        yield found[1], ids


def _order(text: str) -> tuple[tuple[str, bool], ...]:
    return tuple(_ordered(part) for part in text.split(",") if part.strip())


def _ordered(part: str) -> tuple[str, bool]:
    path, _, direction = part.strip().partition(" ")
    if direction.strip().lower() not in ("", "asc", "desc"):
        raise bad_request(f"Syntax error in $orderby: '{part.strip()}'.")
    filters.kind_of(path)
    return path, direction.strip().lower() == "desc"


def _sort_key(path: str) -> Callable[[Item], Any]:
    def key(item: Item) -> Any:
        value = filters.value_at(item, path)
        return (value is not None, value.lower() if isinstance(value, str) else value)

    return key


def _number(given: Mapping[str, str], name: str, low: int, high: int) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    if not _DIGITS.fullmatch(text) or not low <= int(text) <= high:
        raise bad_query(f"Invalid value '{text}' for {name}: it must be a number from {low} to {high}.")
    return int(text)


def _efficient(filtered: tuple[str, ...], ordered: list[str]) -> bool:
    """What is ordered by must be filtered by too, first and in the same order (learn.microsoft.com/graph/api/user-list-messages)."""
    return list(dict.fromkeys(filtered))[: len(ordered)] == ordered
