"""Functions on this machine: looked up by version, fetched once."""

import re
from pathlib import Path
from typing import Final

from headrace.contracts.errors import SetupError
from headrace.registry.function import Package, unpack
from headrace.registry.s3 import Bucket, split_url
from headrace.settings import Settings

_VERSION: Final = re.compile(r"[0-9a-f]{12}")


def package_key(version: str) -> str:
    """Where a function's package lies in the bucket."""
    return f"functions/{version}.zip"


class FunctionCache:
    """Unpacked functions under `cache_dir/functions/<version>/`. A version never changes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._root = settings.cache_dir.expanduser() / "functions"

    def put(self, package: Package) -> Path:
        """Unpack a package that is at hand; returns its folder."""
        folder = self._folder(package.version)
        if not folder.is_dir():
            unpack(package.data, package.version, folder)
        return folder

    async def fetch(self, version: str, url: str) -> Path:
        """The function's folder, downloaded from `s3://…` unless it is here.

        Raises:
            SetupError: it cannot be had, or what came is not this version.
        """
        folder = self._folder(version)
        if folder.is_dir():
            return folder
        bucket, key = split_url(url)
        unpack(await Bucket(self._settings.s3, bucket).get(key), version, folder)
        return folder

    def _folder(self, version: str) -> Path:
        if not _VERSION.fullmatch(version):
            raise SetupError(f"{version!r} is not a version of a function")
        return self._root / version
