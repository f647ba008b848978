"""Which problems the code raises: their codes, what they say and what they tell to do, read from its source.

`python -m tests.unit.error_page` makes docs/errors.md of it.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

from mailroom import errors
from mailroom.credentials import _aadsts, _aadsts_users, _google_answers
from mailroom.providers import _graph_answers, _smtp_answers
from tests.unit.recorded import sources

GAP = "…"
KINDS = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.MailroomError)}
PASSED_ON = re.compile(r"[\w.\[\]]*\bcode\b")  # another error's code, which stands where that one is raised
VAULTS = ("secret", "certificate", "key")


class Problem(NamedTuple):
    """`kind` is the error's class. What differs from case to case is `…` in the texts; a text that only the other side knows is empty."""

    code: str
    where: str
    kind: str
    detail: str = ""
    next_step: str = ""


class Unreadable(Exception):
    """A code that the source does not say plainly, and no table here knows."""


def problems() -> list[Problem]:
    return [*_plain(), *_computed()]


def _plain() -> Iterator[Problem]:
    for where, module in sources().items():
        for call, function in _raises(module):
            kind = ast.unparse(call.func)
            code, detail, step = [*call.args, ast.Constant(""), ast.Constant("")][:3]
            step = next((one.value for one in call.keywords if one.arg == "next_step"), step)
            texts = Texts(where, function, call.lineno)
            found = _codes(where, call, code, module, function)
            yield from (Problem(one, where, kind, texts.of(detail), texts.of(step)) for one in found)


def _codes(where: str, call: ast.Call, code: ast.expr, module: ast.Module, function: ast.AST) -> Iterable[str]:
    found = _either(code)
    if found is not None:
        return found
    if isinstance(code, ast.JoinedStr) and ast.unparse(code).startswith("f'vault_{kind}"):
        return [ast.unparse(code)[2:-1].format(kind=kind) for kind in VAULTS]
    if isinstance(code, ast.Name):
        return _assigned(code.id, function) or _handed_on(function, module, code.id)
    if PASSED_ON.fullmatch(ast.unparse(code)) or isinstance(code, ast.List) or where == "mailroom/settings/__init__.py":
        return ["settings_invalid"] if ast.unparse(call.func) == "BadSettings" else []
    if re.fullmatch(r"[\w.]+\.code or '(\w+)'", ast.unparse(code)):
        return [ast.unparse(code).split("'")[1]]
    raise Unreadable(f"{where}:{call.lineno}: {ast.unparse(code)}")


def _either(node: ast.expr) -> list[str] | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.IfExp):
        both = [_either(node.body), _either(node.orelse)]
        return [text for texts in both for text in texts or []]
    return None


def _assigned(name: str, function: ast.AST) -> list[str]:
    found = [node.value for node in ast.walk(function) if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name]
    return [text for value in found for text in _either(value) or []]


def _handed_on(function: ast.AST, module: ast.Module, name: str) -> list[str]:
    """The function takes the code from its callers in the same file."""
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        return []
    names = [one.arg for one in function.args.args if one.arg != "self"]
    if name not in names:
        return []
    at = names.index(name)
    calls = [node for node in ast.walk(module) if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == function.name]
    return [text for call in calls if len(call.args) > at for text in _either(call.args[at]) or []]


def _computed() -> Iterator[Problem]:
    """What stands in tables."""
    for row in _smtp_answers.ROWS:
        yield Problem(row.code, "mailroom/providers/_smtp_answers.py", row.kind.__name__, "", row.next_step)
    for code, step in _graph_answers._REFUSALS.values():
        yield Problem(code, "mailroom/providers/_graph_answers.py", "Refused", "", step)
    for _, _, code, step in _google_answers._MEANINGS:
        yield Problem(code, "mailroom/credentials/_google_answers.py", "AuthorityRefused", "", step.format(scope=GAP))
    step = _google_answers._FEDERATION
    yield Problem("google_federation_refused", "mailroom/credentials/_google_answers.py", "AuthorityRefused", "", step)
    for number, step in numbers().items():
        yield Problem(f"aadsts_{number}", "mailroom/credentials/_aadsts.py", "AuthorityRefused", "", step)


def numbers() -> dict[int, str]:
    """AADSTS numbers with their steps: a user's before an application's."""
    tables = (_aadsts.NEXT_STEPS, _aadsts_users.LOGIN_STEPS, _aadsts_users.REFRESH_STEPS, _aadsts_users.PASSWORD_STEPS)
    steps: dict[int, list[str]] = {}
    for table in tables:
        for number, step in table.items():
            known = steps.setdefault(number, [])
            known += [step] if step not in known else []
    return {number: " — or: ".join(steps[number]) for number in sorted(steps)}


def _raises(module: ast.Module) -> Iterator[tuple[ast.Call, ast.AST]]:
    inside: list[tuple[ast.AST, ast.AST]] = [(module, module)]
    while inside:
        node, function = inside.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS and node.args:
            yield node, function
        inside += [(child, function) for child in ast.iter_child_nodes(node)]


class Texts:
    """What an expression says, as far as the source says it."""

    def __init__(self, where: str, function: ast.AST, line: int) -> None:
        self._where = where
        self._function = function
        self._line = line

    def of(self, node: ast.expr, deep: int = 0) -> str:
        if deep > 4:
            return GAP
        if isinstance(node, ast.Constant):
            return str(node.value)
        if isinstance(node, ast.JoinedStr):
            return "".join(self.of(part, deep + 1) for part in node.values)
        if isinstance(node, ast.FormattedValue):
            return self._constant(ast.unparse(node.value)) or GAP
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self.of(node.left, deep + 1) + self.of(node.right, deep + 1)
        if isinstance(node, ast.IfExp):
            return " / ".join(filter(None, dict.fromkeys([self.of(node.body, deep + 1), self.of(node.orelse, deep + 1)])))
        if isinstance(node, ast.BoolOp):
            return self.of(node.values[-1], deep + 1)
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("format", "rstrip", "strip", "removesuffix")
        ):
            return re.sub(r"\{\w*\}", GAP, self.of(node.func.value, deep + 1))
        if isinstance(node, ast.Name | ast.Attribute):
            return self._named(ast.unparse(node), deep)
        return ""

    def _named(self, name: str, deep: int) -> str:
        before = [
            (one.lineno, one.value)
            for one in ast.walk(self._function)
            if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == name and one.lineno <= self._line
        ]
        said = self.of(max(before, key=lambda pair: pair[0])[1], deep + 1) if before else ""
        return said or re.sub(r"\{\w*\}", GAP, self._constant(name))

    def _constant(self, name: str) -> str:
        found: object = _module(self._where)
        for part in name.split("."):
            found = getattr(found, part, None)
        return str(found) if isinstance(found, str | int) and not isinstance(found, bool) else ""


@cache
def _module(where: str) -> object:
    return importlib.import_module(where.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
