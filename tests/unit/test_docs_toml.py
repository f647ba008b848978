"""The TOML in the pages about grants and providers: who copies it has sound settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mailroom import settings

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^ *```toml\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
BLOCKS = [
    pytest.param(block, id=f"{page.parent.name}/{page.stem}-{number}")
    for folder in ("grants", "providers")
    for page in sorted((DOCS / folder).glob("*.md"))
    for number, block in enumerate(_BLOCK.findall(page.read_text("utf-8")))
]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_can_be_copied(tmp_path: Path, block: str) -> None:
    """It loads by itself, with no environment."""
    path = tmp_path / "accounts.toml"
    path.write_text(block, "utf-8")
    found = settings.read(path, {})
    assert found.profiles or found.accounts


def test_there_are_blocks() -> None:
    """Each page has at least one."""
    pages = {param.id.rpartition("-")[0] for param in BLOCKS}
    assert pages == {f"{page.parent.name}/{page.stem}" for folder in ("grants", "providers") for page in (DOCS / folder).glob("*.md")}
