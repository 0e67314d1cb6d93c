"""From a manifest's `model: {source: …}` to a path on this machine.

`file:` and `package:` are found in place. `s3:` and `hf:` are downloaded once into the cache.
"""

import asyncio
import hashlib
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from headrace.contracts.errors import SetupError
from headrace.contracts.manifest import ModelSource
from headrace.registry.s3 import Bucket, split_url
from headrace.settings import Settings

_HUB: Final = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+?))?(?:/(?P<file>[^@]+))?")


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
    if scheme == "file":
        path = folder / rest
    elif scheme == "package":
        path = _in_package(rest)
    elif scheme == "s3":
        path = await _from_s3(model.source, cache, settings)
    else:
        path = await asyncio.to_thread(_from_hub, parse_hub(rest), cache)
    if not path.exists():
        raise SetupError(f"Model source {model.source}: {path} does not exist")
    if model.sha256 is not None:
        await asyncio.to_thread(_check, path, model)
    return path


@dataclass(frozen=True, slots=True)
class HubName:
    """`ORG/NAME[@REVISION][/FILE]`; without a file, the whole repository."""

    repo: str
    revision: str | None
    file: str | None


def parse_hub(text: str) -> HubName:
    """Read what stands behind `hf:`.

    Raises:
        SetupError: it is not of the form.
    """
    match = _HUB.fullmatch(text)
    if match is None:
        raise SetupError(f"Model source hf:{text} is not of the form hf:ORG/NAME[@REVISION][/FILE]")
    return HubName(match["repo"], match["revision"], match["file"])


def _in_package(rest: str) -> Path:
    module, _, resource = rest.partition("/")
    if not resource:
        raise SetupError(f"Model source package:{rest} is not of the form package:MODULE/RESOURCE")
    # find_spec does not run the package: only its files are wanted.
    spec = find_spec(module) if module.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise SetupError(f"Model source package:{rest}: no Python package {module} is installed here")
    return Path(spec.submodule_search_locations[0]) / resource


async def _from_s3(url: str, cache: Path, settings: Settings) -> Path:
    bucket, key = split_url(url)
    path = cache / "s3" / bucket / key
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    await Bucket(settings.s3, bucket).download(key, partial)
    partial.rename(path)  # whole or not at all
    return path


def _from_hub(name: HubName, cache: Path) -> Path:
    try:
        from huggingface_hub import hf_hub_download, snapshot_download  # noqa: PLC0415
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError  # noqa: PLC0415
    except ModuleNotFoundError:
        raise SetupError("A model from the hub needs: pip install 'headrace[hf]'") from None
    hub = cache / "hf"
    try:
        if name.file is None:
            return Path(snapshot_download(name.repo, revision=name.revision, cache_dir=hub))
        return Path(hf_hub_download(name.repo, name.file, revision=name.revision, cache_dir=hub))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise SetupError(f"The hub did not give {name.repo}: {error}") from None


def _check(path: Path, model: ModelSource) -> None:
    if not path.is_file():
        raise SetupError(f"Model source {model.source} is a folder; sha256 is for one file")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != model.sha256:
        raise SetupError(f"Model source {model.source} has sha256 {found}, the manifest wants {model.sha256}")
