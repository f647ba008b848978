"""The TOML of the README and of the pages about grants and providers: who copies it has sound settings, and everybody finds their row."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import pytest

from mailroom import credentials, providers, settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FOLDERS = ("grants", "providers")
PAGES = [page for folder in FOLDERS for page in sorted((DOCS / folder).glob("*.md"))]
_BLOCK = re.compile(r"^ *```toml\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#\s]+\.md)(?:#[^)]*)?\)")
BLOCKS = [
    pytest.param(block, id=f"{page.relative_to(ROOT).with_suffix('')}-{number}")
    for page in [ROOT / "README.md", *PAGES]
    for number, block in enumerate(_BLOCK.findall(page.read_text("utf-8")))
]
GRANTS = {name for _, name, _ in pkgutil.iter_modules(credentials.__path__) if not name.startswith("_")} - {"none"}
PROVIDERS = {name for _, name, _ in pkgutil.iter_modules(providers.__path__) if not name.startswith("_")} - {"mime"}


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_can_be_copied(tmp_path: Path, block: str) -> None:
    """It loads by itself, with no environment."""
    path = tmp_path / "accounts.toml"
    path.write_text(block, "utf-8")
    found = settings.read(path, {})
    assert found.profiles or found.accounts


def test_there_are_blocks() -> None:
    """Each page has at least one, and the README."""
    pages = {str(param.id).rpartition("-")[0] for param in BLOCKS}
    assert pages == {"README", *(str(page.relative_to(ROOT).with_suffix("")) for page in PAGES)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_page_has_its_parts(page: Path) -> None:
    """What it takes, and what goes wrong as a rule."""
    text = page.read_text("utf-8")
    assert {"## Permissions", "## Usual errors"} <= set(text.splitlines())


def test_everybody_finds_their_row() -> None:
    """One page for each grant and provider; the README's tables name them all and lead there."""
    assert {page.stem.replace("-", "_") for page in PAGES if page.parent.name == "grants"} == GRANTS
    assert {page.stem for page in PAGES if page.parent.name == "providers"} == PROVIDERS
    rows = [line for line in (ROOT / "README.md").read_text("utf-8").splitlines() if re.search(r"\(docs/(grants|providers)/", line)]
    tables = "\n".join(row for row in rows if row.startswith("|"))
    missing = {name for name in GRANTS | PROVIDERS if f"`{name}`" not in tables}
    assert not missing
    assert {str(page.relative_to(ROOT)) for page in PAGES} <= set(_LINK.findall(tables))


def test_the_example_has_every_way() -> None:
    """Each grant and provider stands there, ready to be uncommented; that its lines are true is tested with the settings."""
    lines = [
        line.removeprefix("# ").partition(" #")[0].strip() for line in (ROOT / "accounts.example.toml").read_text("utf-8").splitlines()
    ]
    assert {f'grant = "{name}"' for name in GRANTS} | {f'provider = "{name}"' for name in PROVIDERS} <= set(lines)


def test_the_commands_are_told_of() -> None:
    """Who reads only the README or the example hears of what does the work."""
    for page in ("README.md", "accounts.example.toml"):
        text = (ROOT / page).read_text("utf-8")
        assert "`mailroom login" in text
        assert "`mailroom certificate" in text
