"""huggingface_hub's real client against a fake hub: a small server that speaks what one download needs."""

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from headrace.contracts.errors import SetupError
from headrace.registry.hub import HubName, parse_hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"config.json": b'{"a": 1}', "weights/model.gguf": b"GGUF" + bytes(5000)}

# In a process of its own: huggingface_hub reads HF_ENDPOINT when it is imported.
FETCH = """
import sys
from pathlib import Path
from headrace.contracts.errors import SetupError
from headrace.registry.hub import fetch_from_hub, parse_hub
try:
    print(fetch_from_hub(parse_hub(sys.argv[1]), Path(sys.argv[2])))
except SetupError as error:
    sys.exit(str(error))
"""


class FakeHub(BaseHTTPRequestHandler):
    """One repository, `org/tiny`, at one commit."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/org/tiny"):
            about = {"id": "org/tiny", "sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES]}
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": _etag(data)}
                for name, data in FILES.items()
            ]
            self._send(json.dumps(tree if "/tree/" in path else about).encode(), {}, with_body=with_body)
            return
        for revision in ("main", COMMIT):
            prefix = f"/org/tiny/resolve/{revision}/"
            name = path.removeprefix(prefix)
            if path.startswith(prefix) and name in FILES:
                headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{_etag(FILES[name])}"'}
                self._send(FILES[name], headers, with_body=with_body)
                return
        error = "EntryNotFound" if path.startswith("/org/tiny/") else "RepoNotFound"
        self._send(b"", {"X-Error-Code": error}, with_body=with_body, status=404)

    def _send(self, data: bytes, headers: dict[str, str], *, with_body: bool, status: int = 200) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(data)


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@pytest.fixture(scope="module")
def fake_hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _fetch(endpoint: str, name: str, cache: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", FETCH, name, str(cache)],
        env={"HF_ENDPOINT": endpoint, "HOME": str(cache), "NO_PROXY": "127.0.0.1", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("org/name", HubName("org/name", None, None)),
        ("org/name@v1.0", HubName("org/name", "v1.0", None)),
        ("org/na-me.v2/model.gguf", HubName("org/na-me.v2", None, "model.gguf")),
        ("org/name@abc/deep/er/model.gguf", HubName("org/name", "abc", "deep/er/model.gguf")),
    ],
)
def test_names_are_read(text: str, name: HubName) -> None:
    assert parse_hub(text) == name


@pytest.mark.parametrize("text", ["", "name", "org/", "org/name@", "org/name@/file", "org/name/", "a b/c"])
def test_what_is_no_name_is_told(text: str) -> None:
    with pytest.raises(SetupError, match="not of the form hf:ORG/NAME"):
        parse_hub(text)


def test_a_file_is_fetched(fake_hub: str, tmp_path: Path) -> None:
    done = _fetch(fake_hub, "org/tiny/weights/model.gguf", tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == FILES["weights/model.gguf"]


def test_a_whole_repository_is_fetched_at_a_revision(fake_hub: str, tmp_path: Path) -> None:
    done = _fetch(fake_hub, f"org/tiny@{COMMIT}", tmp_path)
    assert done.returncode == 0, done.stderr
    for name, data in FILES.items():
        assert (Path(done.stdout.strip()) / name).read_bytes() == data


@pytest.mark.parametrize("name", ["org/tiny/no-such-file", "org/other", "org/--bad--"])
def test_what_the_hub_does_not_have_is_told(fake_hub: str, tmp_path: Path, name: str) -> None:
    done = _fetch(fake_hub, name, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("The hub did not give org/"), done.stderr


def test_a_hub_that_may_not_be_asked_is_told(fake_hub: str, tmp_path: Path) -> None:
    done = _fetch(fake_hub, "org/tiny/config.json", tmp_path, HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    assert done.stderr.startswith("The hub did not give org/tiny"), done.stderr
