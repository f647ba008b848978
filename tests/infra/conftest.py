"""The compiler, or a skip that says what is missing; and what a deployment would make."""

from __future__ import annotations

from typing import Any

import pytest

from tests.infra.bicep import Bicep, find


@pytest.fixture(scope="session")
def bicep(tmp_path_factory: pytest.TempPathFactory) -> Bicep:
    command = find()
    if command is None:
        pytest.skip("NOT TESTED: no Bicep compiler; set BICEP or put `bicep` on PATH")
    return Bicep(command, tmp_path_factory.mktemp("bicep"))


@pytest.fixture(scope="session")
def predicted(bicep: Bicep) -> list[dict[str, Any]]:
    return bicep.predicted()
