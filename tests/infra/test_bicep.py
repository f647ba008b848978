"""infra/ compiles without a word from the compiler, every linter rule at error."""

from __future__ import annotations

import json
import re

import pytest

from tests.infra.bicep import INFRA, Bicep


@pytest.mark.parametrize("file", ["main.bicep", "main.bicepparam"])
def test_no_diagnostics(bicep: Bicep, file: str) -> None:
    """Neither error nor warning: a wrong property or API version is only a warning, and the compiler exits 0."""
    assert bicep.diagnostics(file) == []


def test_formatted(bicep: Bicep) -> None:
    """Each file is as the compiler would format it."""
    bicep.format()
    made = {path.relative_to(bicep.infra): path.read_text() for path in bicep.infra.rglob("*.bicep*") if path.suffix != ".json"}
    assert made == {file: (INFRA / file).read_text() for file in made}


def test_every_rule_is_an_error() -> None:
    """The linter has no softer rule among those that we name."""
    rules = json.loads((INFRA / "bicepconfig.json").read_text())["analyzers"]["core"]["rules"]
    assert {rule: setting["level"] for rule, setting in rules.items() if setting["level"] != "error"} == {}
    assert len(rules) >= 54  # as many as Bicep 0.49 knows


def test_nothing_from_outside_and_no_raw_ids() -> None:
    """No registry module (it would need the network), no GUID (roles have names), and no rule switched off in a file."""
    for path in INFRA.rglob("*.bicep"):
        assert not re.search(r"'br[:/]|#disable|[0-9a-f]{8}-[0-9a-f]{4}-", path.read_text()), path


@pytest.mark.parametrize(
    "setting", [("MAILROOM_INSTANCE_MEMORY_MB", "1024"), ("MAILROOM_STORAGE_SKU", "Premium_LRS"), ("MAILROOM_MAXIMUM_INSTANCES", "many")]
)
def test_a_wrong_parameter_stops_before_deploying(bicep: Bicep, setting: tuple[str, str]) -> None:
    """A value that Azure would refuse is refused by the compiler, with the parameter's line."""
    name, value = setting
    done = bicep.parameters(**{name: value})
    assert done.returncode != 0
    assert "main.bicepparam(" in done.stderr


def test_azd_environment_is_taken(bicep: Bicep) -> None:
    """What azd knows of the environment ends up in the parameters."""
    done = bicep.parameters(AZURE_ENV_NAME="prod", AZURE_LOCATION="swedencentral", MAILROOM_MAXIMUM_INSTANCES="7")
    values = {name: given["value"] for name, given in json.loads(json.loads(done.stdout)["parametersJson"])["parameters"].items()}
    assert (values["name"], values["location"], values["maximumInstanceCount"]) == ("prod", "swedencentral", 7)
