"""The `process` actuator, by the suite."""

import pytest
from tests.contract.actuators.conformance import Conformance, Make, settings

from headrace.scaler.actuators import catalog

__all__ = ["settings"]


class TestProcesses(Conformance):
    @pytest.fixture
    def make(self, settings) -> Make:
        return lambda: catalog.create(settings)
