"""checkov on the predicted resources. Bicep itself it cannot parse, and into nested deployments it does not look."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.infra.bicep import INFRA, ROOT

SCHEMA = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"


@pytest.fixture
def checkov() -> Path:
    """Its pins clash with everybody's, so it lives in an environment of its own: infra/check.sh makes it."""
    command = Path(os.environ.get("CHECKOV") or ROOT / ".venv-checkov" / "bin" / "checkov")
    if not command.exists():
        pytest.skip("NOT TESTED: no checkov; infra/check.sh installs it")
    return command


@pytest.mark.slow
def test_only_what_has_a_reason_fails(checkov: Path, predicted: list[dict[str, Any]], tmp_path: Path) -> None:
    """What fails is exactly what infra/.checkov.yaml skips, each line with its reason."""
    (tmp_path / "predicted.json").write_text(json.dumps({"$schema": SCHEMA, "contentVersion": "1.0.0.0", "resources": predicted}))
    command = [str(checkov), "--framework", "arm", "--file", "predicted.json", "--skip-download", "--soft-fail", "--output", "json"]
    env = {name: value for name, value in os.environ.items() if value}  # an empty https_proxy is no proxy, but not for checkov
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    failed = {result["check_id"] for result in report["results"]["failed_checks"]}
    skipped = re.findall(r"(?m)^  - (CKV\w+) # \w+", (INFRA / ".checkov.yaml").read_text())
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 20
    assert failed == set(skipped)
