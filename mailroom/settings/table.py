"""One table of accounts.toml as it is read: keys are taken one by one, and what is wrong with any is noted, so that all is said at once."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, NamedTuple

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")  # names become table keys and parts of blob names
NAME_WANTED = "should be 1 to 100 letters, digits and . _ @ + -, the first a letter or digit"
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_DER = re.compile(r"MI[IG][A-Za-z0-9+/]{20}")
_SHOWN = 60
_RANDOM_LENGTH = 20
_RANDOM_CHANGES = 0.35


class Shape(NamedTuple):
    pattern: re.Pattern[str]
    wanted: str


class Table:
    def __init__(self, path: str, values: Mapping[str, Any], mistakes: list[str]) -> None:
        self.path = path
        self.mistakes = mistakes
        self._values = values
        self._asked: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def wrong(self, key: str, found: str, wanted: str) -> None:
        self.mistakes.append(f"{self.at(key)}: {found}; {wanted}")

    def at(self, key: str) -> str:
        part = key if _BARE.fullmatch(key) else json.dumps(key)
        return f"{self.path}.{part}" if self.path else part

    def text(self, key: str, default: str | None = None, *, shape: Shape | None = None, hidden: bool = False) -> str:
        """ "" for what is missing or wrong; `hidden` values stand in no message."""
        wanted = shape.wanted if shape else "should be a text"
        value = self._take(key, default, wanted)
        if value is None:
            return ""
        if isinstance(value, str) and value and (shape is None or shape.pattern.fullmatch(value)) and not (hidden and looks_secret(value)):
            return value
        self.wrong(key, "found something else" if hidden and not looks_secret(value) else f"found {shown(value)}", wanted)
        return ""

    def choice(self, key: str, known: Collection[str], default: str | None = None) -> str:
        wanted = f"should be one of {', '.join(sorted(known)) or 'none, for there are none'}"
        value = self._take(key, default, wanted)
        if isinstance(value, str) and value in known:
            return value
        if value is not None:
            self.wrong(key, f"found {shown(value)}", nearest(value, known) or wanted)
        return ""

    def texts(self, key: str, default: Iterable[str] | None = None, *, known: Collection[str] | None = None) -> frozenset[str]:
        wanted = "should be a list of texts" if known is None else f"should be a list of {', '.join(sorted(known))}"
        value = self._take(key, None if default is None else list(default), wanted)
        if value is None:
            return frozenset()
        if not isinstance(value, list) or not value or not all(isinstance(one, str) and one for one in value):
            self.wrong(key, f"found {shown(value)}", f'{wanted}, such as ["{min(known) if known else "…"}"]')
            return frozenset()
        strange = [] if known is None else sorted({*value} - {*known})
        for one in strange:
            self.wrong(key, f"found {shown(one)}", nearest(one, known or ()) or wanted)
        return frozenset() if strange else frozenset(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self._take(key, default, "")
        if not isinstance(value, bool):
            self.wrong(key, f"found {shown(value)}", "should be true or false, without quotes")
            return default
        return value

    def number(self, key: str, default: float, least: float, most: float) -> float:
        value = self._take(key, default, "")
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            self.wrong(key, f"found {shown(value)}", f"should be a number from {least:.10g} to {most:.10g}")
            return default
        return float(value)

    def raw(self, key: str) -> Any:
        """For values of other types, which the caller checks."""
        self._asked.add(key)
        return self._values.get(key)

    def table(self, key: str) -> Table:
        value = self._take(key, {}, "")
        if not isinstance(value, Mapping):
            self.wrong(key, f"found {shown(value)}", f"should be a table: [{self.at(key)}]")
            value = {}
        return Table(self.at(key), value, self.mistakes)

    def tables(self, key: str) -> Iterator[tuple[str, Table]]:
        """The tables within a table, such as each `[accounts.NAME]`."""
        outer = self.table(key)
        for name, value in outer._values.items():
            if not NAME.fullmatch(name):
                outer.wrong(name, "found this name", NAME_WANTED)
            if isinstance(value, Mapping):
                yield name, Table(outer.at(name), value, self.mistakes)
            else:
                outer.wrong(name, f"found {shown(value)}", f"should be a table: [{self.at(key)}.NAME]")

    def left(self) -> list[str]:
        """The keys that nobody has asked for yet."""
        return [key for key in self._values if key not in self._asked]

    def done(self, also: Iterable[str] = ()) -> None:
        """Nothing else is known here, besides `also`: what is left is wrong."""
        self._asked |= set(also)
        for key in self.left():
            self.wrong(key, "unknown key", self._advice(key))

    def _advice(self, key: str) -> str:
        if looks_secret(self._values[key]) or re.search(r"secret|password|private", key, re.IGNORECASE):
            return "a secret belongs in the vault, and its name there in `secret` or `certificate`"
        return nearest(key, self._asked) or f"known keys: {', '.join(sorted(self._asked))}"

    def _take(self, key: str, default: Any, wanted: str) -> Any:
        self._asked.add(key)
        if key not in self._values and default is None:
            self.wrong(key, "missing", wanted)
        return self._values.get(key, default)


def nearest(value: object, known: Collection[str]) -> str:
    found = get_close_matches(str(value).lower(), [name.lower() for name in known], n=1, cutoff=0.6)
    name = next((name for name in sorted(known) if [name.lower()] == found), "")
    return f"did you mean {name}?" if name else ""


def shown(value: object) -> str:
    """A value as a message may show it."""
    if looks_secret(value):
        return "what looks like a secret (not shown here)"
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def looks_secret(value: object) -> bool:
    """A key in PEM or DER, or a long text that changes between letters of either case, digits and signs as only random ones do."""
    if isinstance(value, list | tuple):
        return any(map(looks_secret, value))
    if isinstance(value, Mapping):
        return any(map(looks_secret, value.values()))
    if not isinstance(value, str):
        return False
    if "-----BEGIN" in value or _DER.match(value):
        return True
    run = max(value.split("-"), key=len)
    changes = sum(_class_of(a) != _class_of(b) for a, b in pairwise(run))
    return len(run) >= _RANDOM_LENGTH and not re.search(r"[\s@:]", value) and changes > _RANDOM_CHANGES * len(run)


def _class_of(character: str) -> str:
    if character.isdigit():
        return "digit"
    return "other" if not character.isalpha() else "upper" if character.isupper() else "lower"
