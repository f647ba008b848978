"""What the health page says: for whoever watches the app, and nothing that is secret."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any

from mailroom.errors import MailroomError
from mailroom.model.account import Account
from mailroom.ports import Store
from token_refresh.reports import Report, Reports


async def health(version: str, accounts: Collection[Account], store: Callable[[], Store]) -> tuple[int, dict[str, Any]]:
    """503 when storage does not answer, for then nothing is accepted. A profile that cannot sign in degrades, no more."""
    body: dict[str, Any] = {"status": "ok", "version": version, "accounts": len(accounts), "storage": "ok", "refresh": []}
    try:
        reports = await Reports(store()).of(accounts)
    except MailroomError as error:
        return 503, body | {"status": "down", "storage": error.code}
    if not all(report.ok for report in reports):
        body["status"] = "degraded"
    return 200, body | {"refresh": [_shown(report) for report in reports]}


def _shown(report: Report) -> dict[str, Any]:
    at = datetime.fromtimestamp(report.at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {"profile": report.profile, "provider": report.provider, "at": at, "result": report.code or "ok"}
