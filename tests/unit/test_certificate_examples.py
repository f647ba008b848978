"""Every `mailroom certificate` command that the docs and the help print is one that the command understands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli.main import _parser

DOCS = Path(__file__).parents[2] / "docs"
WAYS = ("make", "export", "show", "import", "list")
_LINE = re.compile(r"^ *mailroom (certificate .*)$", re.MULTILINE)
_CODE = re.compile(r'"((?:keystore|certificate|password|file)_[a-z_]+)"')


@pytest.mark.parametrize("way", WAYS)
def test_the_help_has_an_example_that_works(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--help of each subcommand ends with one, of that very subcommand."""
    with pytest.raises(SystemExit) as ended:
        _parser().parse_args(["certificate", way, "--help"])
    assert ended.value.code == 0
    examples = _LINE.findall(capsys.readouterr().out)
    assert examples
    assert [_parser().parse_args(example.split()).way for example in examples] == [way] * len(examples)


def test_the_page_can_be_copied() -> None:
    """Each command of the page parses, and all subcommands are there."""
    commands = _LINE.findall((DOCS / "certificates.md").read_text("utf-8"))
    assert {_parser().parse_args(command.split()).way for command in commands} == set(WAYS)


def test_the_page_knows_every_code() -> None:
    """What files and passwords can be wrong about stands in its table of errors."""
    sources = (DOCS.parent / "cli/certificate").glob("*.py")
    codes = {code for source in sources for code in _CODE.findall(source.read_text("utf-8"))}
    page = (DOCS / "certificates.md").read_text("utf-8")
    assert len(codes) > 10
    assert {code for code in codes if f"`{code}`" not in page} == set()
