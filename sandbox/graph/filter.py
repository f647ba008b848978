"""`$filter`: OData's expressions (OASIS OData 4.01, URL conventions, 5.1.1), as far as Outlook takes them on messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sandbox.graph import contract
from sandbox.graph.errors import GraphError, bad_request
from sandbox.graph.items import Item, property_id

_TOKEN = re.compile(
    r"\s*(?:(?P<string>'(?:[^']|'')*')|(?P<date>\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)?)?)"
    r"|(?P<number>-?\d+(?:\.\d+)?)|(?P<name>[A-Za-z_@][\w.@]*(?:/[A-Za-z_@][\w.@]*)*)|(?P<mark>[(),:]))"
)
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
}
_TEXT: dict[str, Callable[[str, str], bool]] = {
    "contains": lambda a, b: b in a,
    "startswith": lambda a, b: a.startswith(b),
    "endswith": lambda a, b: a.endswith(b),
}
_FITS: dict[str, type] = {contract.DATE: datetime, contract.BOOLEAN: bool, contract.STRING: str}
Test = Callable[[Item], bool]


@dataclass(frozen=True, slots=True)
class Filter:
    """`paths` are the properties in the order of their mention; `equal` one (name, value) that every match has, for the index."""

    matches: Test
    paths: tuple[str, ...] = ()
    equal: tuple[str, str] | None = None


def parse(text: str) -> Filter:
    """Raises GraphError."""
    reader = _Reader(text)
    try:
        found = reader.either()
    except RecursionError as error:
        raise bad_request("Invalid filter clause: The recursion limit has been exceeded.") from error
    reader.end()
    return found


def value_at(item: Item, path: str) -> Any:
    if path == "hasAttachments":
        return any(not one.inline for one in item.attachments)
    if path == "parentFolderId":
        return item.folder.id
    value: Any = item.props
    for name in path.split("/"):
        value = value.get(name) if isinstance(value, dict) else None
    return value


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(_tokens(text))
        self.at = 0

    def either(self) -> Filter:
        found = self.both()
        while self._taken("or"):
            found = _or(found, self.both())
        return found

    def both(self) -> Filter:
        found = self.term()
        while self._taken("and"):
            found = _and(found, self.term())
        return found

    def term(self) -> Filter:
        if self._taken("not"):
            inner = self.term()
            return Filter(lambda item: not inner.matches(item), inner.paths)
        if self._taken("("):
            inner = self.either()
            self._want(")")
            return inner
        name = self._name()
        if name.lower() in _TEXT:
            return self._text(name.lower())
        if name.lower().endswith("/any"):
            return self._any(name[:-4])
        return self._compare(name)

    def end(self) -> None:
        if self.at < len(self.tokens):
            raise self._wrong()

    def _compare(self, path: str) -> Filter:
        kind = kind_of(path)
        operator = self._name().lower()
        if operator not in _ORDER:
            raise self._wrong()
        wanted = _literal(kind, self._value(), operator)
        equal = (path, str(wanted)) if (path, operator) == ("internetMessageId", "eq") else None
        return Filter(lambda item: _holds(operator, _folded(value_at(item, path)), wanted), (path,), equal)

    def _text(self, function: str) -> Filter:
        self._want("(")
        path = self._name()
        kind = kind_of(path)
        self._want(",")
        wanted = self._value()
        self._want(")")
        if kind != contract.STRING or not isinstance(wanted, str):
            raise bad_request(f"Invalid filter clause: No function signature for the function with name '{function}' matches '{path}'.")
        if self._taken("eq") and self._value() is not True:
            raise self._wrong()
        test = _TEXT[function]
        return Filter(lambda item: test(_folded(value_at(item, path)) or "", wanted.lower()), (path,))

    def _any(self, collection: str) -> Filter:
        self._want("(")
        variable = self._name()
        self._want(":")
        if collection == "singleValueExtendedProperties":
            found = self._property(variable)
        elif collection == "categories":
            found = self._category(variable)
        else:
            raise bad_request(f"The filter on '{collection}' is not supported.", "ErrorInvalidUrlQueryFilter")
        self._want(")")
        return found

    def _property(self, variable: str) -> Filter:
        """`ep/id eq '…' and <test of ep/value>`, or the other way round."""
        wrapped = self._taken("(")
        parts = [self._part(variable)]
        while self._taken("and"):
            parts.append(self._part(variable))
        if wrapped:
            self._want(")")
        names = [value for name, operator, value in parts if (name, operator) == ("id", "eq")]
        tests = [(operator, value) for name, operator, value in parts if name == "value"]
        if len(names) != 1:
            raise bad_request("A filter on extended properties must name the id of one property.", "ErrorInvalidUrlQueryFilter")
        name = property_id(names[0])

        def matches(item: Item) -> bool:
            has = item.extended.get(name)
            return has is not None and all(_value_holds(operator, has.lower(), value.lower()) for operator, value in tests)

        equal = next(((name, value) for operator, value in tests if operator == "eq"), None)
        return Filter(matches, ("singleValueExtendedProperties",), equal)

    def _part(self, variable: str) -> tuple[str, str, str]:
        name = self._name()
        if name.lower() in _TEXT:
            operator = name.lower()
            self._want("(")
            name = self._name()
            self._want(",")
            value = self._value()
            self._want(")")
        else:
            operator = self._name().lower()
            value = self._value()
        head, _, member = name.partition("/")
        known = member == "id" or operator in _TEXT or operator in _ORDER
        if head != variable or member not in ("id", "value") or not isinstance(value, str) or not known:
            raise self._wrong()
        return member, operator, value

    def _category(self, variable: str) -> Filter:
        if self._name() != variable or self._name().lower() != "eq":
            raise self._wrong()
        wanted = str(self._value()).lower()
        return Filter(lambda item: any(one.lower() == wanted for one in item.props.get("categories") or ()), ("categories",))

    def _taken(self, mark: str) -> bool:
        here = self.at < len(self.tokens) and self.tokens[self.at][0] in ("name", "mark") and self.tokens[self.at][1].lower() == mark
        self.at += here
        return here

    def _want(self, mark: str) -> None:
        if not self._taken(mark):
            raise self._wrong()

    def _next(self) -> tuple[str, str]:
        if self.at == len(self.tokens):
            raise self._wrong()
        self.at += 1
        return self.tokens[self.at - 1]

    def _name(self) -> str:
        kind, text = self._next()
        if kind != "name":
            raise self._wrong()
        return text

    def _value(self) -> Any:
        kind, text = self._next()
        if kind == "string":
            return text[1:-1].replace("''", "'")
        if kind == "date":
            return self._date(text)
        if kind == "number":
            return float(text)
        if kind == "name" and text.lower() in ("true", "false", "null"):
            return {"true": True, "false": False, "null": None}[text.lower()]
        raise self._wrong()

    def _date(self, text: str) -> datetime:
        try:
            return contract.date(text)
        except ValueError as error:
            raise self._wrong() from error

    def _wrong(self) -> GraphError:
        return bad_request(f"Invalid filter clause: Syntax error at position {self.at} in '{self.text}'.")


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        if found is None:
            raise bad_request(f"Invalid filter clause: Syntax error: character at position {at} is not valid in '{text}'.")
        at = found.end()
        assert found.lastgroup
        yield found.lastgroup, found[found.lastgroup]


def kind_of(path: str) -> str:
    """The type of the property at the end of the path, one that has an order; raises GraphError."""
    kind = "message"
    for name in path.split("/"):
        if name not in contract.TYPES.get(kind, {}):
            raise bad_request(f"Invalid clause: Could not find a property named '{name}' on type 'microsoft.graph.{kind}'.")
        kind = contract.TYPES[kind][name]
    if kind not in _FITS and kind not in contract.ENUMS:
        raise bad_request(f"Invalid clause: The property '{path}' has the type '{kind}', which can't be compared.")
    return kind


def _literal(kind: str, value: Any, operator: str) -> Any:
    """Exchange compares texts without their case."""
    if value is not None and not isinstance(value, _FITS.get(kind, str)):
        found = {datetime: contract.DATE, bool: contract.BOOLEAN, float: "Edm.Double"}.get(type(value), contract.STRING)
        raise bad_request(
            "Invalid filter clause: A binary operator with incompatible types was detected. Found operand types"
            f" '{kind}' and '{found}' for operator kind '{operator}'."
        )
    return _folded(value)


def _folded(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _holds(operator: str, found: Any, wanted: Any) -> bool:
    if found is None or wanted is None:
        return operator in ("eq", "ne") and _ORDER[operator](found, wanted)
    return _ORDER[operator](found, wanted)


def _value_holds(operator: str, found: str, wanted: str) -> bool:
    return (_TEXT.get(operator) or _ORDER[operator])(found, wanted)


def _and(left: Filter, right: Filter) -> Filter:
    return Filter(lambda item: left.matches(item) and right.matches(item), left.paths + right.paths, left.equal or right.equal)


def _or(left: Filter, right: Filter) -> Filter:
    return Filter(lambda item: left.matches(item) or right.matches(item), left.paths + right.paths)
