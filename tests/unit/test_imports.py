"""What a cold start loads, and what it must not: each of these costs more than sending a mail does (bench/cold.py)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LATER = [
    "aiosmtplib",
    "azure.identity",
    "azure.keyvault.secrets",
    "azure.storage",
    "azure.data",
    "cryptography.x509",
    "google",
    "googleapiclient",
    "jinja2",
    "joserfc",
    "msal",
    "opentelemetry.sdk",
    "requests",
]


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """The modules of a fresh process, with no environment, that has loaded function_app.py."""
    program = "import json, sys, function_app; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("library", LATER)
def test_a_cold_start_does_not_pay_for(loaded: set[str], library: str) -> None:
    """Heavy libraries are imported by the function that needs them first, not by loading the app."""
    assert not {name for name in loaded if name == library or name.startswith(f"{library}.")}


def test_the_rooms_are_open(loaded: set[str]) -> None:
    """The app that was loaded is the whole one, so that the promise above is not kept by an empty house."""
    assert {"send_mail.triggers", "receive_mail.triggers", "token_refresh.triggers"} <= loaded
