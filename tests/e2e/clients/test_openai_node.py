"""openai-node, unmodified, against a whole running stack. It has no dependencies: it is just unpacked."""

import hashlib
import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Final

import pytest
from tests.e2e.clients.environments import ROOT
from tests.e2e.clients.test_openai import SLOW_MODEL, slow_function
from tests.parts import require
from tests.stack import Stack

SCRIPT: Final = Path(__file__).with_name("openai_node_checks.mjs")
CHECKS: Final = re.findall(r"^  async (\w+)\(\) \{$", SCRIPT.read_text(), re.MULTILINE)
VERSION: Final = "6.49.0"
SHA512: Final = (
    "69809cd02e8bf3ae1e47a592608c101b25eb8b0fe7232671d0e6ef87338456e9"
    "34ce8043a729e349bae2a27588eeaeb90791fc8c95f40d747db2713333a6df3e"
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def _package() -> Path:
    """A folder with `node_modules/openai` of just that version."""
    folder = ROOT / ".venvs" / "openai-node"
    packed = folder / f"openai-{VERSION}.tgz"
    if not packed.exists():
        folder.mkdir(parents=True, exist_ok=True)
        npm = require("npm", "npm")
        subprocess.run(
            [npm, "pack", "--silent", f"openai@{VERSION}"],
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=240,
        )
    assert hashlib.sha512(packed.read_bytes()).hexdigest() == SHA512
    home = folder / "node_modules" / "openai"
    if not home.exists():
        with tarfile.open(packed) as archive:
            archive.extractall(folder, filter="data")
        home.parent.mkdir(exist_ok=True)
        (folder / "package").rename(home)
    return folder


@pytest.fixture(scope="module")
def report(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """All checks, run once."""
    node = require("node", "nodejs")
    folder = _package()
    stack.deploy(slow_function(tmp_path_factory.mktemp("functions")))
    script = folder / SCRIPT.name  # beside the package, which is where node looks for it
    shutil.copy(SCRIPT, script)
    done = subprocess.run(
        [node, str(script), stack.http_url, "echo", SLOW_MODEL],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str | None] = json.loads(done.stdout)
    return found


def test_checks_were_found() -> None:
    assert len(CHECKS) > 5


@pytest.mark.parametrize("check", CHECKS)
def test_openai_node(report: dict[str, str | None], check: str) -> None:
    assert report[check] is None, report[check]
