"""What the shipped code says about its surroundings, read from its syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.infra.bicep import ROOT

FILES = ("function_app.py", "host.json", "requirements.txt")
FOLDERS = ("mailroom", "receive_mail", "send_mail", "token_refresh")


def sources() -> Iterator[Path]:
    yield ROOT / "function_app.py"
    for folder in FOLDERS:
        yield from sorted((ROOT / folder).rglob("*.py"))


def strings(path: Path) -> Iterator[str]:
    """Every string that the code uses; docstrings only talk."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    talk = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in talk:
            yield node.value


def environ_goes_to(path: Path) -> set[str]:
    """Who is handed the process's environment there; whoever reads it directly is named as `os.environ` or `os.getenv`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    handed = {id(part): call for call in ast.walk(tree) if isinstance(call, ast.Call) for part in call.args}
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv")]
    return {ast.unparse(handed[id(node)].func) if id(node) in handed else ast.unparse(node) for node in found}
