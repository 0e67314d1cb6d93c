"""The tables as they are now; `migrations/` says how they became so, and a test holds the two together."""

from typing import Final

from sqlalchemy import Column, Double, Index, Integer, LargeBinary, MetaData, String, Table, Text

from headrace.contracts.requests import MAX_ID_CHARS

VERSION_TABLE: Final = "headrace_version"
"""Where Alembic keeps the revision; a name of its own tells our database from any other."""

METADATA: Final = MetaData()

RESULTS: Final = Table(
    "results",
    METADATA,
    Column("request_id", String(MAX_ID_CHARS), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("http_status", Integer, nullable=False),
    Column("model", Text),
    Column("content_type", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_at_s", Double, nullable=False),
    Column("expires_at_s", Double, nullable=False),
    Index("results_by_expiry", "expires_at_s"),
)
