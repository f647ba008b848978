"""What is deployed: only what runs, and all that it needs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.infra.bicep import ROOT
from tests.infra.code import FILES, FOLDERS


def git(*arguments: str, where: Path = ROOT) -> list[str]:
    done = subprocess.run(["git", *arguments], cwd=where, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    return git("ls-files")


@pytest.fixture
def shipped(tracked: list[str], tmp_path: Path) -> set[str]:
    """azd reads .funcignore as git would; git itself is asked, about a tree with our names and some that lie about."""
    git("init", "-q", where=tmp_path)
    for name in [
        *tracked,
        "accounts.toml",
        "local.settings.json",
        ".venv/bin/python",
        "mailroom/__pycache__/http.pyc",
        "mailroom.egg-info/x",
    ]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return set(git("ls-files", "--others", f"--exclude-from={ROOT / '.funcignore'}", where=tmp_path))


def test_only_what_runs_is_shipped(tracked: list[str], shipped: set[str]) -> None:
    """The front door, the rooms, the core, their requirements, and accounts.toml, which git does not track."""
    assert shipped == {"accounts.toml"} | {name for name in tracked if name in FILES or name.split("/")[0] in FOLDERS}


def test_core_tools_ship_the_same(tracked: list[str], shipped: set[str]) -> None:
    """Core Tools (GitIgnoreParser.cs) takes a `!` line as a prefix that wins wherever it stands; here both readings agree."""
    lines = (ROOT / ".funcignore").read_text().splitlines()
    kept = [re.escape(line.removeprefix("!").removeprefix("/")) for line in lines if line.startswith("!")]
    accepted = re.compile(rf"({'|'.join(kept)})\b")
    assert {name for name in tracked if accepted.match(name)} == shipped - {"accounts.toml"}


def test_what_is_shipped_is_enough(shipped: set[str], tmp_path: Path) -> None:
    """The app loads from a folder that has nothing but the package."""
    package = tmp_path / "wwwroot"
    for name in shipped:
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / (name if name != "accounts.toml" else "accounts.example.toml"), package / name)
    ask = "import function_app, sys, json; print(json.dumps([getattr(m, '__file__', None) or '' for m in list(sys.modules.values())]))"
    env = {"PATH": os.environ["PATH"], "AzureWebJobsStorage": "UseDevelopmentStorage=true", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", ask], cwd=package, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    elsewhere = [file for file in json.loads(done.stdout) if Path(file).is_relative_to(ROOT) and "site-packages" not in file]
    assert elsewhere == []


def test_local_settings_are_what_the_code_reads() -> None:
    """The example for `func start` names the settings of a local run, with no secret among them."""
    values = json.loads((ROOT / "local.settings.example.json").read_text())["Values"]
    assert set(values) == {"FUNCTIONS_WORKER_RUNTIME", "AzureWebJobsStorage", "MAILROOM_ACCOUNTS", "MAILROOM_VAULT_URL"}
    assert values["AzureWebJobsStorage"] == "UseDevelopmentStorage=true"
