"""Which permissions an account needs at the least, by provider, direction and size: computed from what the providers say of themselves.

`python -m cli.permissions` writes the table into docs/permissions.md, between its two marks.
"""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from mailroom import providers
from mailroom.model.account import Traits

PAGE = Path(__file__).resolve().parent.parent / "docs" / "permissions.md"
BEGIN, END = "<!-- python -m cli.permissions writes this -->", "<!-- to here -->"

Needs = Sequence[frozenset[str]]  # of each, one permission is enough


class Need(NamedTuple):
    """`limit` is in bytes, 0 for whatever the provider takes; `least` is empty where no permission is needed."""

    provider: str
    what: str
    limit: int
    least: tuple[str, ...]


def needs() -> list[Need]:
    names = [found.name for found in pkgutil.iter_modules(providers.__path__) if not found.name.startswith("_")]
    modules = {name: import_module(f"mailroom.providers.{name}") for name in sorted(names)}
    return [need for name, module in modules.items() if hasattr(module, "TRAITS") for need in _of(name, module)]


def least(traits: Traits, wanted: Needs) -> tuple[str, ...]:
    """A set that holds one of each: two lesser permissions before a greater one, then the fewest. They stand from the least on."""
    known = traits.permissions
    sets = [found for size in range(len(known) + 1) for found in combinations(known, size) if all(one & {*found} for one in wanted)]
    return min(sets, key=lambda found: (max(map(known.index, found), default=-1), len(found)))


def table() -> str:
    head = "| provider | what | up to | least permissions |\n|---|---|---|---|\n"
    return head + "".join(f"| {need.provider} | {need.what} | {_size(need.limit)} | {_names(need)} |\n" for need in needs())


def _of(name: str, module: ModuleType) -> Iterator[Need]:
    """Of a provider whose accounts declare none, what its NEEDS say."""
    traits: Traits = module.TRAITS
    if not traits.permissions:
        yield from (Need(name, f"send {way.name}", way.limit, tuple(sorted(way.needs))) for way in module.NEEDS)
        return
    sizes = [(size.name, size.limit, [frozenset({one}) for one in sorted(size.needs)]) for size in traits.sizes] or [("a mail", 0, [])]
    for what, limit, more in sizes:
        yield Need(name, f"send {what}", limit, least(traits, [traits.sending, *more]))
    yield Need(name, "send, and find out what was sent where an answer was lost", 0, least(traits, [traits.sending, traits.asking]))
    if traits.receives:
        yield Need(name, "receive", 0, least(traits, [traits.asking]))
    everything = [traits.sending, traits.asking, *(one for _, _, more in sizes for one in more)]
    yield Need(name, "all of it", 0, least(traits, everything))


def _size(limit: int) -> str:
    return f"{limit / 1024 / 1024:.3g} MB" if limit else ""


def _names(need: Need) -> str:
    return ", ".join(f"`{name}`" for name in need.least) or "none"


def main() -> int:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table()}\n{END}{rest.partition(END)[2]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
