"""A virtual environment for each client version, made on demand from pinned, hashed requirements."""

import fcntl
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
_LIMIT_S: Final = 240.0


def environment(name: str) -> Path:
    """The Python of `.venvs/NAME`, made from `requirements/NAME.txt` unless it was made from just that."""
    folder = ROOT / ".venvs" / name
    python = folder / "bin" / "python"
    wanted = (ROOT / "requirements" / f"{name}.txt").read_text()
    made_from = folder / "requirements.txt"
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run beside one another
        if not (made_from.exists() and made_from.read_text() == wanted):
            _uv("venv", "--clear", "--python", sys.executable, str(folder))
            packages = ("--require-hashes", "-r", f"requirements/{name}.txt")
            _uv("pip", "install", "--python", str(python), *packages)
            made_from.write_text(wanted)  # last, so that half an environment is made again
    return python


def _uv(*arguments: str) -> None:
    uv = Path(sys.executable).with_name("uv")
    done = subprocess.run(
        [str(uv), "--quiet", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f"uv {' '.join(arguments)}:\n{done.stderr}"
