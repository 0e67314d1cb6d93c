"""The traps of a folder called `platform`, and what the wheel holds."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
_PLATFORM = ROOT / "platform"


def test_platform_is_no_package() -> None:
    # It would shadow the standard library's `platform`, and with it `uuid` and pip.
    assert not (_PLATFORM / "__init__.py").exists()


def test_platform_has_one_child() -> None:
    assert [path.name for path in _PLATFORM.iterdir() if path.name != "__pycache__"] == ["headrace"]


def test_the_standard_library_is_whole_from_the_root() -> None:
    script = "import platform, uuid; assert platform.system(); uuid.uuid4()"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=30)


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"headrace"}
    sources = {f"headrace/{path.relative_to(_PLATFORM / 'headrace')}" for path in _sources()}
    assert sources <= names
    assert "headrace/py.typed" in names
    assert any(name.startswith("headrace/store/migrations/versions/r0001") for name in names)
    assert not any("test" in Path(name).name for name in names)


def _sources() -> list[Path]:
    return list((_PLATFORM / "headrace").rglob("*.py"))
