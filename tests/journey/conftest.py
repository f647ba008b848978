"""The whole town as a process of its own: what `python -m sandbox up --json` starts, used over the wire like the real thing."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]


class Town:
    """The sandbox's addresses, and a caller's client for our API."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self.apps = {app["name"]: app for app in told["apps"]}
        self.billing, self.support = told["mailboxes"][:2]
        self.plain = httpx.Client(verify=ssl.create_default_context(cafile=told["ca"]), timeout=30.0)
        self.api = httpx.Client(base_url=told["functions"], timeout=60.0, headers={"Authorization": f"Bearer {self.token('caller')}"})

    def close(self) -> None:
        self.plain.close()
        self.api.close()

    def token(self, app: str, scope: str | None = None) -> str:
        form = {
            "grant_type": "client_credentials",
            "client_id": self.apps[app]["client_id"],
            "client_secret": self.apps[app]["secret"],
            "scope": scope or self.told["scope"],
        }
        answer = self.plain.post(f"{self.told['authority']}/{self.told['tenant']}/oauth2/v2.0/token", data=form)
        return str(answer.raise_for_status().json()["access_token"])

    def fault(self, **spec: Any) -> None:
        self.plain.post(f"{self.told['control']}/faults", json=spec).raise_for_status()

    def heal(self) -> None:
        self.plain.delete(f"{self.told['control']}/faults").raise_for_status()

    def sent(self, subject: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.plain.get(f"{self.told['control']}/sent").raise_for_status().json()
        return [row for row in rows if row["subject"] == subject]

    def mail(self, **fields: Any) -> dict[str, Any]:
        return {"account": self.billing, "to": ["Ann <ann@example.com>"], "subject": "Hello", "text": "Hello Ann"} | fields

    def until(self, found: Callable[[], Any], seconds: float = 60.0) -> Any:
        """What `found` gives as soon as it gives something."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := found():
                return value
            time.sleep(0.1)
        raise AssertionError("it never came")


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    log = tmp_path_factory.mktemp("town") / "functions.log"
    command = [sys.executable, "-m", "sandbox", "up", "--json", "--log", str(log)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, "the sandbox did not start; its errors are above"
        town = Town(json.loads(line))
        yield town
        town.close()
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


@pytest.fixture(autouse=True)
def _healed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Faults of one test are no faults of the next."""
    yield
    if "town" in request.fixturenames:
        request.getfixturevalue("town").heal()
