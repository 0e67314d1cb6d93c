"""Programs that a machine may lack: a named skip for a newcomer, a failure where all parts are promised."""

import os
import shutil

import pytest


def require(program: str, package: str) -> str:
    """The path of a program."""
    found = shutil.which(program)
    if found is not None:
        return found
    reason = f"{program} is not installed (Debian: apt-get install {package})"
    if os.environ.get("REQUIRE_ALL_PARTS"):
        pytest.fail(reason)
    pytest.skip(reason)
