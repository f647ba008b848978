"""Microsoft's Bicep compiler, as the tests use it. infra/ is copied first: a snapshot is written beside its parameters."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
GROUP = ("--subscription-id", "11111111-1111-4111-8111-111111111111", "--resource-group", "rg-test", "--location", "northeurope")


def find() -> str | None:
    """$BICEP, else `bicep` on PATH."""
    return os.environ.get("BICEP") or shutil.which("bicep")


class Bicep:
    """Works on a copy of infra/ in `folder`. `settings` stand in for the environment that azd would give."""

    def __init__(self, command: str, folder: Path) -> None:
        self._command = str(Path(command).resolve()) if os.sep in command else command
        self.infra = folder / "infra"
        shutil.copytree(INFRA, self.infra)

    def diagnostics(self, file: str) -> list[str]:
        report = json.loads(self._run("lint", file, "--diagnostics-format", "sarif").stdout)
        return [f"{result['ruleId']}: {result['message']['text']}" for run in report["runs"] for result in run["results"]]

    def format(self) -> None:
        for pattern in ("**/*.bicep", "**/*.bicepparam"):
            self._run("format", "--pattern", pattern).check_returncode()

    def parameters(self, **settings: str) -> subprocess.CompletedProcess[str]:
        return self._run("build-params", "main.bicepparam", "--stdout", **settings)

    def predicted(self, **settings: str) -> list[dict[str, Any]]:
        done = self._run("snapshot", "main.bicepparam", "--mode", "overwrite", *GROUP, **settings)
        assert done.returncode == 0, done.stderr
        resources: list[dict[str, Any]] = json.loads((self.infra / "main.snapshot.json").read_text())["predictedResources"]
        return resources

    def _run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        ours = ("AZURE_", "MAILROOM_")
        env = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | settings
        return subprocess.run([self._command, *arguments], cwd=self.infra, env=env, capture_output=True, text=True, check=False)
