"""What the code records and which problems it raises, read from its source: nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from mailroom.model.slice import STATUSES

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("mailroom", "send_mail", "receive_mail", "token_refresh", "cli")
STATUS = "mail.status"  # what the name of an event, or its level, may depend on


class Event(NamedTuple):
    level: str
    fields: frozenset[str]


class Unreadable(Exception):
    """The page can only be held to what the source says plainly; the message says where it does not."""


@cache
def sources() -> dict[str, ast.Module]:
    files = (path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text("utf-8")) for path in files}


def events() -> dict[str, Event]:
    """By name. Where several places record one, its fields are those of any of them."""
    found: dict[str, Event] = {}
    for where, module in sources().items():
        for call, function in _calls(module, "record"):
            for name, level in _named(call, where):
                before = found.get(name, Event(level, frozenset()))
                if before.level != level:
                    raise Unreadable(f"{where}: {name} has two levels")
                found[name] = Event(level, before.fields | _fields(call, function, module, where))
    return found


def calls(*names: str) -> Iterator[tuple[str, ast.Call]]:
    """Each call of a function or class of one of these names, with its file."""
    for where, module in sources().items():
        for name in names:
            yield from ((where, call) for call, _ in _calls(module, name))


def constants(node: ast.expr) -> list[str] | None:
    """The texts that the expression can be, where it says so itself."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.IfExp):
        either = [constants(node.body), constants(node.orelse)]
        return None if None in either else [text for texts in either for text in texts or ()]
    return None


def _calls(module: ast.Module, name: str) -> Iterator[tuple[ast.Call, ast.AST]]:
    """With the innermost function that each stands in."""
    inside: list[tuple[ast.AST, ast.AST]] = [(module, module)]
    while inside:
        node, function = inside.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            yield node, function
        inside += [(child, function) for child in ast.iter_child_nodes(node)]


def _named(call: ast.Call, where: str) -> Iterator[tuple[str, str]]:
    """Its names with their levels."""
    [event], warn = call.args, next((one.value for one in call.keywords if one.arg == "warn"), ast.Constant(False))
    if isinstance(event, ast.JoinedStr) and STATUS in ast.unparse(event):
        for status in STATUSES:
            yield _told(event, status), "warning" if _told(warn, status) else "information"
        return
    names = constants(event)
    if names is None or not isinstance(warn, ast.Constant):
        raise Unreadable(f"{where}:{call.lineno}: which event is this? {ast.unparse(call)}")
    yield from ((name, "warning" if warn.value else "information") for name in names)


def _told(node: ast.expr, status: str) -> Any:
    return eval(compile(ast.Expression(node), "event", "eval"), {"mail": SimpleNamespace(status=status)})


def _fields(call: ast.Call, function: ast.AST, module: ast.Module, where: str) -> frozenset[str]:
    found = {one.arg for one in call.keywords if one.arg and one.arg != "warn"}
    for spread in (one.value for one in call.keywords if one.arg is None):
        keys = _keys(spread, function, module)
        if not keys:
            raise Unreadable(f"{where}:{call.lineno}: which fields has {ast.unparse(spread)}?")
        found |= keys
    return frozenset(found)


def _keys(spread: ast.expr, function: ast.AST, module: ast.Module) -> set[str]:
    """Of a dict that is written out: in the same function under that name, or in the function that is called for it."""
    if isinstance(spread, ast.Call):
        name = ast.unparse(spread.func)
        places = [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef) and node.name == name]
    else:
        name = ast.unparse(spread)
        places = [node.value for node in ast.walk(function) if _sets(node, name)]  # type: ignore[attr-defined]  # such have a value
    keys = (key for place in places for node in ast.walk(place) if isinstance(node, ast.Dict) for key in node.keys)
    return {key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}


def _sets(node: ast.AST, name: str) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(ast.unparse(target) == name for target in targets)
