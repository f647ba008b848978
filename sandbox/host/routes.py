"""Route templates of HTTP triggers, as ASP.NET Core reads them (learn.microsoft.com/aspnet/core/fundamentals/routing).

`messages/{id}`, `{id?}`, `{id:int}`, `{*rest}`; case does not matter. A slash that comes as %2F is no separator and stays %2F.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

_PARAMETER = re.compile(r"(/?)\{(\*{0,2})(\w+)((?::\w+)*)(\?)?\}")
_CONSTRAINTS = {
    "int": r"-?\d+",
    "long": r"-?\d+",
    "alpha": r"[a-z]+",
    "bool": r"true|false",
    "guid": r"\{?[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\}?",
}


class BadRoute(ValueError):
    pass


@dataclass(frozen=True, slots=True)
class Route:
    """`methods` is empty for a function that takes them all."""

    pattern: re.Pattern[str]
    methods: frozenset[str]

    @classmethod
    def of(cls, trigger: dict[str, Any], prefix: str) -> Route:
        template = "/".join(part for part in (prefix, trigger["route"].strip("/")) if part)
        return cls(compiled(template), frozenset(method.upper() for method in trigger.get("methods") or ()))

    def match(self, method: str, raw_path: str) -> dict[str, str] | None:
        """The route's parameters; None when this is another route's request."""
        found = self.pattern.fullmatch(raw_path.strip("/"))
        if found is None or (self.methods and method not in self.methods):
            return None
        return {name: _decoded(value) for name, value in found.groupdict().items() if value is not None}


def compiled(template: str) -> re.Pattern[str]:
    """Raises BadRoute for a constraint that is not known here."""
    pattern, at = "", 0
    for found in _PARAMETER.finditer(template):
        pattern += re.escape(template[at : found.start()]) + _parameter(found)
        at = found.end()
    rest = template[at:]
    if "{" in rest or "}" in rest:
        raise BadRoute(f"the route {template!r} cannot be read from {rest!r}")
    return re.compile(pattern + re.escape(rest), re.IGNORECASE)


def _parameter(found: re.Match[str]) -> str:
    slash, rest, name, constraints, optional = found.groups()
    value = ".*" if rest else "[^/]+"
    for constraint in filter(None, constraints.split(":")):
        if constraint not in _CONSTRAINTS:
            raise BadRoute(f"the constraint {constraint!r} of {name!r} is none of {', '.join(_CONSTRAINTS)}")
        value = _CONSTRAINTS[constraint]
    return f"(?:{slash}(?P<{name}>{value}))" + ("?" if optional or rest else "")


def _decoded(value: str) -> str:
    return unquote(re.sub("%2f", "%252F", value, flags=re.IGNORECASE))
