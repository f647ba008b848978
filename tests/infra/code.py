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
