"""The `mailroom` command from a shell: what it says and how it ends when what it was given is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def mailroom(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.main", *arguments]
    return subprocess.run(command, cwd=ROOT, env={"PYTHONUTF8": "1", **env}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "nobody"], "there is no account 'nobody'. Known accounts: billing."),
        (["check", "billing", "--send-to", "ann"], "'ann' is not an address such as ann@example.com"),
        (["check", "billing", "--send-to", "ann@example.com\r\nBcc: eve@example.com"], "is not an address"),
        (["check"], "required: ACCOUNT"),
        (["juggle"], "invalid choice: 'juggle'"),
    ],
)
def test_a_wrong_argument_is_one_line_and_status_2(arguments: list[str], said: str) -> None:
    """Bad usage is told on stderr in one line, and nothing is checked."""
    done = mailroom(*arguments, MAILROOM_ACCOUNTS="accounts.example.toml")
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout


def test_wrong_settings_are_a_failed_line_and_status_1(tmp_path: Path) -> None:
    """A wrong accounts file is what the first check finds, with every mistake."""
    wrong = tmp_path / "accounts.toml"
    wrong.write_text('[accounts.a]\nprovider = "pigeon"\n[callers.b]\n')
    done = mailroom("check", "a", MAILROOM_ACCOUNTS=str(wrong))
    assert done.returncode == 1
    assert done.stdout.startswith("✗ settings")
    assert "accounts.a.provider" in done.stdout
    assert "callers.b.client_id" in done.stdout


def test_what_fails_says_what_to_do() -> None:
    """With the example's settings and no vault there is no token; each line says why, and what was not tried is not called good."""
    done = mailroom("check", "billing", MAILROOM_ACCOUNTS="accounts.example.toml")
    assert done.returncode == 1
    assert "MAILROOM_VAULT_URL" in done.stdout
    assert done.stdout.endswith("2 failed. 3 not checked.\n")
