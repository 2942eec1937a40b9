"""Size limits that the filesystem keeps, on a machine that has project quotas; and that we count where it has none."""

from __future__ import annotations

import re

import pytest

from tests.mounter.quota_machine import CASES, LIMIT, QuotaMachine


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> QuotaMachine:
    return QuotaMachine(tmp_path_factory.mktemp("machine"))


@pytest.mark.timeout(LIMIT + 20)
@pytest.mark.parametrize("case", re.findall(r"^def (test_\w+)", CASES.read_text(), re.MULTILINE))
def test_on_machine_with_project_quotas(machine: QuotaMachine, case: str) -> None:
    found = {name: outcome for name, outcome in machine.outcomes.items() if name.partition("[")[0] == case}
    assert found, machine.output
    assert set(found.values()) == {"PASSED"}, machine.output
