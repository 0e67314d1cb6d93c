"""What is deployed, from the topic `models`."""

import logging
from collections.abc import Iterable

from headrace.contracts.errors import InvalidRequest, UnknownModel
from headrace.contracts.events import ModelDeployed
from headrace.contracts.topics import MAX_NAME_CHARS
from headrace.core import admission
from headrace.core.ports import Reader, Record

_log = logging.getLogger(__name__)


class Deployed:
    """The models, by slug."""

    def __init__(self) -> None:
        self.by_slug: dict[str, ModelDeployed] = {}
        self._slugs: dict[bytes, str] = {}

    def find(self, name: str) -> ModelDeployed:
        """The model of that name, which may end with `:` and one of its adapters.

        Raises:
            UnknownModel: there is none.
        """
        wanted = name.partition(":")[0]
        for deployed in self.by_slug.values():
            if deployed.name == wanted:
                admission.adapter(deployed, name)
                return deployed
        raise UnknownModel(f"There is no model '{name[:MAX_NAME_CHARS]}'", param="model")

    async def follow(self, reader: Reader) -> None:
        """Read for ever."""
        while True:
            self.update(await reader.poll(1.0))

    def update(self, records: Iterable[Record]) -> None:
        """Take in what was read."""
        for record in records:
            key = record.key or b""
            if record.value is None:
                self.by_slug.pop(self._slugs.pop(key, ""), None)
                continue
            try:
                event = ModelDeployed.decode(record.value)
            except InvalidRequest as error:
                _log.warning("record at %s ignored: %s", record.place, error)
            else:
                self.by_slug[event.slug] = event
                self._slugs[key] = event.slug
