"""The database, opened when it is first needed: a role that is idle does without SQLAlchemy's 25 MB."""

from functools import cached_property
from typing import TYPE_CHECKING

from headrace.settings import DatabaseSettings
from headrace.store.key_file import KeyFile

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from headrace.store.batches import Batches
    from headrace.store.files import Files
    from headrace.store.idempotency import Keys
    from headrace.store.jobs import Jobs
    from headrace.store.keys import ApiKeys
    from headrace.store.results import Results
    from headrace.store.usage import Usage
    from headrace.store.webhooks import Webhooks


class Stores:
    """One of each, on one engine."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self._settings = settings
        if not settings.url.startswith("sqlite"):
            # A server's URL is more likely to be wrong: that is told at once.
            _ = self.engine

    @property
    def is_open(self) -> bool:
        """Whether anything was asked for yet."""
        return "engine" in self.__dict__

    @cached_property
    def engine(self) -> "AsyncEngine":
        """The engine.

        Raises:
            SetupError: the URL is wrong, or its driver is missing.
        """
        from headrace.store.database import open_engine  # noqa: PLC0415

        return open_engine(self._settings)

    @cached_property
    def jobs(self) -> "Jobs":
        """The index of jobs."""
        from headrace.store.jobs import Jobs  # noqa: PLC0415

        return Jobs(self.engine)

    @cached_property
    def results(self) -> "Results":
        """The archive."""
        from headrace.store.results import Results  # noqa: PLC0415

        return Results(self.engine)

    @cached_property
    def keys(self) -> "Keys":
        """Keys of idempotency."""
        from headrace.store.idempotency import Keys  # noqa: PLC0415

        return Keys(self.engine)

    @cached_property
    def webhooks(self) -> "Webhooks":
        """Endpoints and deliveries."""
        from headrace.store.webhooks import Webhooks  # noqa: PLC0415

        return Webhooks(self.engine)

    @cached_property
    def api_keys(self) -> "ApiKeys | KeyFile":
        """API keys, to be read; those of a file without SQLAlchemy."""
        if self._settings.url.startswith("sqlite"):
            return KeyFile(self._settings)
        return self.written_keys

    @cached_property
    def written_keys(self) -> "ApiKeys":
        """API keys, to be made and revoked too."""
        from headrace.store.keys import ApiKeys  # noqa: PLC0415

        return ApiKeys(self.engine)

    @cached_property
    def usage(self) -> "Usage":
        """What accounts have used."""
        from headrace.store.usage import Usage  # noqa: PLC0415

        return Usage(self.engine)

    @cached_property
    def files(self) -> "Files":
        """What is known of files."""
        from headrace.store.files import Files  # noqa: PLC0415

        return Files(self.engine)

    @cached_property
    def batches(self) -> "Batches":
        """Batches."""
        from headrace.store.batches import Batches  # noqa: PLC0415

        return Batches(self.engine)

    async def close(self) -> None:
        """Close every connection."""
        if self.is_open:
            await self.engine.dispose()
