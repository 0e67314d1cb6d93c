"""Models from a Hugging Face hub, by huggingface_hub; `HF_ENDPOINT` and `HF_TOKEN` are its own settings."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headrace.contracts.errors import SetupError

_NAME: Final = re.compile(
    r"(?P<repo>[\w.-]+/[\w.-]+)"
    r"(?:@(?P<revision>[\w.-]+))?"  # of a branch with a slash, name the commit
    r"(?:/(?P<file>[^@]+))?"
)


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
    match = _NAME.fullmatch(text)
    if match is None:
        raise SetupError(f"Model source hf:{text} is not of the form hf:ORG/NAME[@REVISION][/FILE]")
    return HubName(match["repo"], match["revision"], match["file"])


def fetch_from_hub(name: HubName, cache: Path) -> Path:
    """The file, or the folder of the whole repository, downloaded unless it is in `cache`. Blocks.

    Raises:
        SetupError: the library is not installed, or the hub did not give it.
    """
    try:
        from huggingface_hub import hf_hub_download, snapshot_download  # noqa: PLC0415  # an extra
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError  # noqa: PLC0415
    except ModuleNotFoundError:
        raise SetupError("A model from the hub needs huggingface_hub: pip install 'headrace[hf]'") from None
    try:
        if name.file is None:
            return Path(snapshot_download(name.repo, revision=name.revision, cache_dir=cache))
        return Path(hf_hub_download(name.repo, name.file, revision=name.revision, cache_dir=cache))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        said = str(error).strip().split("\n", 1)[0]
        raise SetupError(f"The hub did not give {name.repo}: {said or type(error).__name__}") from None
