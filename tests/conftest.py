"""Fixtures for every room's tests."""

import asyncio

pytest_plugins = ["tests.stack"]


def pytest_configure() -> None:
    """Say that the main thread has no event loop; else pytest-asyncio makes one on Python 3.11 and leaks it."""
    asyncio.set_event_loop(None)
