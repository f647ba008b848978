"""What `mailroom batch` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

STATUSES = ("sent", "pending", "sending", "in_doubt", "held", "refused", "cancelled")
LISTED = 20


def accepted(view: Mapping[str, Any]) -> Iterator[str]:
    counts = view.get("counts")
    told = f"{sum(counts.values()) - counts['refused']} mails accepted" if counts else str(view.get("detail", "accepted"))
    if counts and counts["refused"]:
        told += f", {counts['refused']} refused"
    at = f"; they go from {view['send_at']} on" if "send_at" in view else ""
    yield f"batch {view['id']}: {told}{at}"


def cancelled(view: Mapping[str, Any]) -> Iterator[str]:
    """One that was accepted says what had gone by then; one that was on its way in says why it never will be."""
    yield f"batch {view['id']}: cancelled; {standing(view) if 'counts' in view else view.get('detail', 'nothing of it goes')}"


def retried(view: Mapping[str, Any]) -> Iterator[str]:
    yield f"batch {view['id']}: {view['retried']} mails are tried once more; {standing(view)}"


def standing(view: Mapping[str, Any]) -> str:
    """`538 sent, 2 refused, 30 a minute, done about 2026-11-27T21:40:00Z`."""
    told = [f"{view['counts'][status]} {status.replace('_', ' ')}" for status in STATUSES if view["counts"].get(status)]
    if view.get("rate"):
        told.append(f"{view['rate']:g} a minute")
    if "eta" in view:
        told.append(f"done about {view['eta']}")
    return ", ".join(told)


def refused(rows: list[dict[str, Any]], total: int) -> Iterator[str]:
    for one in rows[:LISTED]:
        name = f"{one['id']}: " if one.get("id") else ""
        detail = str(one.get("detail") or "")
        at = "" if detail.startswith("line ") else f"line {one['line']}: "
        yield f"  {at}{name}{one['code']}: {detail}"
        if one.get("next_step"):
            yield f"    → {one['next_step']}"
    if total > LISTED:
        yield f"  … and {total - min(LISTED, len(rows))} more"


def rehearsed(view: Mapping[str, Any]) -> Iterator[str]:
    bad = len(view["refused"])
    yield (
        f"{view['count']} mails would go"
        + (f", {bad} would be refused" if bad else "")
        + f"; that takes {_span(view['estimated_seconds'])}"
    )
    if "send_at" in view:
        yield f"from {view['send_at']} on"
    yield from refused(view["refused"], bad)
    for number, mail in enumerate(view["rendered"], 1):
        yield f"--- {number} ---"
        for name, value in mail.items():
            yield f"{name}: {value if isinstance(value, str) else _flat(value)}"


def _flat(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(one if isinstance(one, str) else str(one.get("name", one)) for one in value)
    return str(value)


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
