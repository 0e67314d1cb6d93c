"""What no tracked file may say: where packages come from, and where a machine keeps its files."""

import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

_ROOT = Path(__file__).parents[2]

# Every host that a file names is here, so that a registry's cannot slip in.
_HOSTS = {
    "127.0.0.1",
    "github.com",
    "headrace.dev",
    "json-schema.org",
    "www.apache.org",
    "www.standardwebhooks.com",
    # Where callers must not send us, and one where they may.
    "10.0.0.1",
    "169.254.169.254",
    "93.184.215.14",
}
_URL = re.compile(r"https?://[^\s\"'`)\]}>,;]+")
_RESERVED = (".example", "example.com", "example.org", ".invalid", ".test")
_MACHINE_PATH = re.compile(r"(?<![\w.~/\-$}])/(?:home|root|Users|work|mnt)/[\w.]")
_INDEX = re.compile(r"--(?:extra-)?index-url|--find-links|--default-index")
_COMPILE = _ROOT / "requirements" / "compile"  # it names the option that leaves addresses out


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=_ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.split("\0") if name and (path := _ROOT / name).is_file()]


def test_no_unknown_host() -> None:
    found = {}
    for path in _tracked():
        for url in _URL.findall(_read(path)):
            host = _host(url)
            # A name without a dot is a stand-in, such as HOST.
            if host and "." in host and host not in _HOSTS and not host.endswith(_RESERVED):
                found[str(path.relative_to(_ROOT))] = url
    assert not found


def test_no_package_index() -> None:
    files = [path for path in _tracked() if path not in (_COMPILE, Path(__file__))]
    assert [path for path in files if _INDEX.search(_read(path))] == []


def test_no_path_of_a_machine() -> None:
    found = {
        str(path.relative_to(_ROOT)): match[0]
        for path in _tracked()
        if (match := _MACHINE_PATH.search(_read(path))) is not None
    }
    assert not found


def _host(url: str) -> str | None:
    try:
        host = urlsplit(url).netloc.rpartition("@")[2].partition(":")[0]
    except ValueError:
        return None
    # A template such as http://{host}:{port} names none.
    return host if re.fullmatch(r"[\w.-]+", host) else None


def _read(path: Path) -> str:
    return path.read_text(errors="replace")
