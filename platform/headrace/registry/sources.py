"""From a manifest's `model: {source: …}` to a path on this machine.

`file:` and `package:` are found in place. `s3:` and `hf:` are downloaded once into the cache: what lies there
is never looked at again, so a new model needs a new key or revision.
"""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from headrace.contracts.errors import SetupError
from headrace.contracts.manifest import ModelSource
from headrace.registry.hub import fetch_from_hub, parse_hub
from headrace.registry.s3 import Bucket, split_url
from headrace.settings import Settings


async def resolve(model: ModelSource, folder: Path, settings: Settings) -> Path:
    """The model's file or folder.

    Args:
        model: what the manifest says.
        folder: the function's own folder, which `file:` is relative to.
        settings: where the cache and the S3 service are.

    Raises:
        SetupError: it is not there, cannot be had, or its digest is not the manifest's.
    """
    scheme, _, rest = model.source.partition(":")
    cache = settings.cache_dir.expanduser() / "models"
    if scheme == "s3":
        return await _from_s3(model, cache, settings)
    if scheme == "hf":
        path = await asyncio.to_thread(fetch_from_hub, parse_hub(rest), cache / "hf")
    else:
        path = _in_package(rest) if scheme == "package" else folder / rest
    if not path.exists() or not os.access(path, os.R_OK):
        raise SetupError(f"Model source {model.source}: {path} does not exist or cannot be read")
    await asyncio.to_thread(_check, path, model)
    return path


def _in_package(rest: str) -> Path:
    module, _, resource = rest.partition("/")
    if not resource or ".." in PurePosixPath(resource).parts:
        raise SetupError(f"Model source package:{rest} is not of the form package:MODULE/RESOURCE")
    # find_spec does not run a top-level package: only its files are wanted.
    spec = find_spec(module) if module.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise SetupError(f"Model source package:{rest}: no Python package {module} is installed here")
    return Path(spec.submodule_search_locations[0]) / resource


async def _from_s3(model: ModelSource, cache: Path, settings: Settings) -> Path:
    bucket, key = split_url(model.source)
    if ".." in PurePosixPath(key).parts:
        raise SetupError(f"Model source {model.source}: '..' in a key cannot be cached")
    path = cache / "s3" / bucket / key
    if path.exists():
        return path
    with _partial(path) as partial:
        await Bucket(settings.s3, bucket).download(key, partial)
        await asyncio.to_thread(_check, partial, model)
    return path


@contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """A file to write that becomes `path` in the end: whole and checked, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Its own name, because workers on one machine may download at the same time.
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:64]}-", dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _check(path: Path, model: ModelSource) -> None:
    if model.sha256 is None:
        return
    if not path.is_file():
        raise SetupError(f"Model source {model.source} is a folder; sha256 is for one file")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != model.sha256:
        raise SetupError(f"Model source {model.source} has sha256 {found}, the manifest wants {model.sha256}")
