"""Fixtures for every room's tests."""

import asyncio

import hypothesis
import pytest

pytest_plugins = ["tests.stack"]

# Machines differ in speed and are shared; how long an example takes is no verdict on the code.
hypothesis.settings.register_profile(
    "headrace", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("headrace")


def pytest_configure() -> None:
    """Say that there is no event loop yet; else pytest-asyncio makes one on Python 3.11 and leaks it."""
    asyncio.set_event_loop(None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the session's stack last: what they deploy goes on running beside all that follow."""
    items.sort(key=lambda item: "stack" in getattr(item, "fixturenames", ()))
