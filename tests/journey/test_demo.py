"""The quick start, as a newcomer sees it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_demo() -> None:
    """`make demo` does the main job and exits 0, with a line for each of its steps."""
    done = subprocess.run([sys.executable, "-m", "sandbox", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    steps = ["a certificate, made", "a token, fetched", "a mail, sent", "a batch of 100", "a reply, received", "a token, renewed"]
    at = [done.stdout.index(step) for step in steps]
    assert at == sorted(at)
    assert len(done.stdout.splitlines()) < 25
    assert done.stderr == ""
