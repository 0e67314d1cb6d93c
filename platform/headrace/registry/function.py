"""A function's folder: its manifest, and the package that carries it.

The version is a digest of names and contents, not of the archive, so it is the same on every machine and
with every zip library.
"""

import hashlib
import io
import shutil
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from headrace.contracts.errors import SetupError
from headrace.contracts.manifest import FILE_NAME, Manifest
from headrace.registry.manifest_file import read_manifest

__all__ = ["MAX_PACKAGE_BYTES", "Package", "pack", "read_manifest", "unpack"]

MAX_PACKAGE_BYTES: Final = 64 * 2**20
"""Models are named by source, not packed; what is left is code and small data."""

_VERSION_CHARS: Final = 12
_ZIP_TIME: Final = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Package:
    """A packed function."""

    manifest: Manifest
    version: str
    data: bytes


def pack(folder: Path) -> Package:
    """Pack a function's folder.

    Raises:
        SetupError: the manifest is wrong, code is no Python, a file is a link, or all of it is over
            `MAX_PACKAGE_BYTES`.
    """
    manifest = read_manifest(folder)
    root = folder.parent if folder.name == FILE_NAME else folder
    files = {path.relative_to(root).as_posix(): path for path in _files(root)}
    size_bytes = sum(path.stat().st_size for path in files.values())
    if size_bytes > MAX_PACKAGE_BYTES:
        raise SetupError(
            f"{root} holds {size_bytes} bytes, more than {MAX_PACKAGE_BYTES}: "
            "keep models out of the folder and name them by 'model: {source: …}'"
        )
    contents = {name: files[name].read_bytes() for name in sorted(files)}
    for name, content in contents.items():
        _check_code(name, content)
    return Package(manifest, _version(contents), _zip(contents))


def unpack(data: bytes, version: str, into: Path) -> None:
    """Unpack a package to the folder `into`, whole or not at all.

    Raises:
        SetupError: the package is damaged, is not this version, or would write outside of `into`.
    """
    contents = _unzip(data)
    if _version(contents) != version:
        raise SetupError(f"The package of version {version} is damaged: its digest differs")
    into.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{into.name}-", dir=into.parent))
    try:
        for name, content in contents.items():
            path = staging / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        try:
            staging.rename(into)
        except OSError:
            if not into.is_dir():  # else another process was faster, with the same content
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _files(root: Path) -> list[Path]:
    found = []
    for path in root.rglob("*"):
        parts = path.relative_to(root).parts
        if "__pycache__" in parts or any(part.startswith(".") for part in parts):
            continue
        if path.is_symlink():
            raise SetupError(f"{path} is a link; a function's folder holds plain files only")
        if path.is_file():
            found.append(path)
        elif not path.is_dir():
            raise SetupError(f"{path} is not a plain file, which is all that a function's folder holds")
    return found


def _check_code(name: str, content: bytes) -> None:
    """Code that cannot even be read is told here, and not by a worker. Nothing of it is run."""
    if not name.endswith(".py"):
        return
    try:
        compile(content, name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) else ""
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        raise SetupError(f"{name}{line}: {type(error).__name__}: {said}") from None


def _version(contents: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(contents):
        digest.update(f"{name}\0{len(contents[name])}\0".encode())
        digest.update(contents[name])
    return digest.hexdigest()[:_VERSION_CHARS]


def _zip(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _unzip(data: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if sum(info.file_size for info in infos) > MAX_PACKAGE_BYTES:
                raise SetupError(f"The package unpacks to more than {MAX_PACKAGE_BYTES} bytes")
            for info in infos:
                _check_name(info.filename)
            return {info.filename: archive.read(info) for info in infos if not info.is_dir()}
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise SetupError(f"The package is damaged: {error}") from None


def _check_name(text: str) -> None:
    name = PurePosixPath(text)
    if not name.parts or name.is_absolute() or ".." in name.parts or "\\" in text:
        raise SetupError(f"The package names a file outside of its folder: {text!r}")
