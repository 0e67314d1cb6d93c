"""Programs that a machine may lack: a named skip for a newcomer, a failure where all parts are promised."""

import os
import shutil
from typing import NoReturn

import pytest


def require(program: str, package: str) -> str:
    """The path of a program."""
    return shutil.which(program) or lacks(f"{program} is not installed (Debian: apt-get install {package})")


def lacks(reason: str) -> NoReturn:
    """End the test because this machine lacks a part."""
    if os.environ.get("REQUIRE_ALL_PARTS"):
        pytest.fail(reason)
    pytest.skip(reason)
