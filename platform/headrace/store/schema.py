"""The tables as they are now; `migrations/` says how they became so, and a test holds the two together.

Times are Unix seconds. `tenant` is empty for callers who belong to none. Columns named `…_json` hold JSON.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
)

from headrace.contracts.requests import MAX_ID_CHARS

VERSION_TABLE: Final = "headrace_version"
"""Where Alembic keeps the revision; a name of its own tells our database from any other."""

METADATA: Final = MetaData()

_ID: Final = String(MAX_ID_CHARS)

RESULTS: Final = Table(
    "results",
    METADATA,
    Column("request_id", _ID, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("http_status", Integer, nullable=False),
    Column("model", Text),
    Column("content_type", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_at_s", Double, nullable=False),
    Column("expires_at_s", Double, nullable=False),
    Column("tenant", Text, nullable=False, server_default=""),
    # Of a batch's lines alone, so that a batch is put together in the order of its file.
    Column("batch_id", _ID),
    Column("line", Integer),
    # Where the body is, when it was too large for a record.
    Column("claim_json", Text),
    Index("results_by_expiry", "expires_at_s"),
    Index("results_by_batch", "batch_id", "line"),
)

JOBS: Final = Table(
    "jobs",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("lane", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("http_status", Integer),
    Column("attempt", Integer, nullable=False),
    # Where the request lies; none while only its result is known.
    Column("topic", Text),
    Column("partition", Integer),
    Column("offset", BigInteger),
    Column("stream", Boolean, nullable=False),
    # The body, where callers may ask for it again.
    Column("request", LargeBinary),
    Column("created_at_s", Double, nullable=False),
    Column("deadline_s", Double),
    Column("finished_at_s", Double),
    Column("expires_at_s", Double, nullable=False),
    # Removed by its owner; the row stays, so that its id does not look like one that is not listed yet.
    Column("forgotten", Boolean, nullable=False, server_default=false()),
    Index("jobs_by_tenant", "tenant", "created_at_s", "id"),
    Index("jobs_by_expiry", "expires_at_s"),
    # Those that have not ended, which are few.
    Index("jobs_unfinished", "state", "tenant"),
)

IDEMPOTENCY: Final = Table(
    "idempotency",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("key", String(256), primary_key=True),
    Column("request_id", _ID, nullable=False),
    # SHA-256 of path and body: the same key with another request is an error.
    Column("fingerprint", String(64), nullable=False),
    Column("created_at_s", Double, nullable=False),
    Column("expires_at_s", Double, nullable=False),
    Index("idempotency_by_expiry", "expires_at_s"),
)

API_KEYS: Final = Table(
    "api_keys",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    # The beginning of the key, by which its owner knows it again.
    Column("prefix", String(32), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("scopes_json", Text, nullable=False),
    Column("created_at_s", Double, nullable=False),
    Column("expires_at_s", Double),
    Column("revoked_at_s", Double),
    # Limits of its own; without them it is counted with its tenant.
    Column("limits_json", Text),
)

FILES: Final = Table(
    "files",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("purpose", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("object_key", Text, nullable=False),
    # `pending` until its object is whole, `gone` until its object is removed.
    Column("state", String(16), nullable=False),
    Column("created_at_s", Double, nullable=False),
    Column("expires_at_s", Double),
    Index("files_by_tenant", "tenant", "created_at_s", "id"),
    Index("files_by_expiry", "expires_at_s"),
)

BATCHES: Final = Table(
    "batches",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("model", Text),
    Column("input_file_id", _ID, nullable=False),
    Column("state", String(16), nullable=False),
    Column("window_text", String(16), nullable=False),
    Column("metadata_json", Text),
    Column("errors_json", Text),
    Column("output_file_id", _ID),
    Column("error_file_id", _ID),
    Column("output_expires_after_s", Double),
    # Lines that are in Kafka, and where in the file the next one begins.
    Column("queued_lines", Integer, nullable=False),
    Column("queued_bytes", BigInteger, nullable=False),
    # Where in the file some of the lines begin, so that a page of results reads a part of it.
    Column("marks", LargeBinary),
    # The batch whose failed lines this one runs again.
    Column("retry_of", _ID),
    Column("total", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("created_at_s", Double, nullable=False),
    Column("expires_at_s", Double, nullable=False),
    Column("in_progress_at_s", Double),
    Column("finalizing_at_s", Double),
    Column("completed_at_s", Double),
    Column("failed_at_s", Double),
    Column("expired_at_s", Double),
    Column("cancelling_at_s", Double),
    Column("cancelled_at_s", Double),
    # Which dispatcher works on it, and until when nobody else does.
    Column("owner", Text),
    Column("owned_until_s", Double),
    Index("batches_by_tenant", "tenant", "created_at_s", "id"),
    Index("batches_by_state", "state"),
)

WEBHOOK_ENDPOINTS: Final = Table(
    "webhook_endpoints",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("events_json", Text, nullable=False),
    Column("secret", Text, nullable=False),
    # After a rotation both sign until then.
    Column("old_secret", Text),
    Column("old_until_s", Double),
    Column("enabled", Boolean, nullable=False),
    Column("disabled_reason", Text),
    Column("created_at_s", Double, nullable=False),
    Index("webhook_endpoints_by_tenant", "tenant", "created_at_s", "id"),
)

WEBHOOK_DELIVERIES: Final = Table(
    "webhook_deliveries",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("tenant", Text, nullable=False),
    # None for the URL that one request named.
    Column("endpoint_id", _ID),
    Column("url", Text, nullable=False),
    Column("type", String(64), nullable=False),
    # The job or batch that it tells of.
    Column("subject_id", _ID, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at_s", Double),
    Column("created_at_s", Double, nullable=False),
    Column("finished_at_s", Double),
    Column("expires_at_s", Double, nullable=False),
    Index("webhook_deliveries_by_due", "state", "next_at_s"),
    Index("webhook_deliveries_by_endpoint", "endpoint_id", "created_at_s"),
    Index("webhook_deliveries_by_expiry", "expires_at_s"),
)

WEBHOOK_ATTEMPTS: Final = Table(
    "webhook_attempts",
    METADATA,
    Column("delivery_id", _ID, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at_s", Double, nullable=False),
    Column("duration_ms", Double, nullable=False),
    Column("http_status", Integer),
    Column("error", Text),
)

USAGE: Final = Table(
    "usage",
    METADATA,
    # Days of UTC since 1970.
    Column("day", Integer, primary_key=True),
    # A tenant's, or that of an API key with a quota of its own; see `core.quotas`.
    Column("account", Text, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
)
