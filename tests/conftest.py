"""Fixtures for every room's tests."""

import asyncio

pytest_plugins = ["tests.stack"]


def pytest_configure() -> None:
    """Say that there is no event loop yet; else pytest-asyncio makes one on Python 3.11 and leaks it."""
    asyncio.set_event_loop(None)
