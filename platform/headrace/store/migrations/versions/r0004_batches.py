"""Files and batches."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create them."""
    op.create_table(
        "files",
        sa.Column("id", sa.String(256), primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("purpose", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("object_key", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at_s", sa.Double, nullable=False),
        sa.Column("expires_at_s", sa.Double),
    )
    op.create_index("files_by_tenant", "files", ["tenant", "created_at_s", "id"])
    op.create_index("files_by_expiry", "files", ["expires_at_s"])
    op.create_table(
        "batches",
        sa.Column("id", sa.String(256), primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("input_file_id", sa.String(256), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("window_text", sa.String(16), nullable=False),
        sa.Column("metadata_json", sa.Text),
        sa.Column("errors_json", sa.Text),
        sa.Column("output_file_id", sa.String(256)),
        sa.Column("error_file_id", sa.String(256)),
        sa.Column("output_expires_after_s", sa.Double),
        sa.Column("queued_lines", sa.Integer, nullable=False),
        sa.Column("queued_bytes", sa.BigInteger, nullable=False),
        sa.Column("marks", sa.LargeBinary),
        sa.Column("retry_of", sa.String(256)),
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("completed", sa.Integer, nullable=False),
        sa.Column("failed", sa.Integer, nullable=False),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("created_at_s", sa.Double, nullable=False),
        sa.Column("expires_at_s", sa.Double, nullable=False),
        sa.Column("in_progress_at_s", sa.Double),
        sa.Column("finalizing_at_s", sa.Double),
        sa.Column("completed_at_s", sa.Double),
        sa.Column("failed_at_s", sa.Double),
        sa.Column("expired_at_s", sa.Double),
        sa.Column("cancelling_at_s", sa.Double),
        sa.Column("cancelled_at_s", sa.Double),
        sa.Column("owner", sa.Text),
        sa.Column("owned_until_s", sa.Double),
    )
    op.create_index("batches_by_tenant", "batches", ["tenant", "created_at_s", "id"])
    op.create_index("batches_by_state", "batches", ["state"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("batches")
    op.drop_table("files")
