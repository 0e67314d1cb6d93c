"""Jobs, their keys of idempotency, and whose a result is."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create them."""
    op.add_column("results", sa.Column("tenant", sa.Text, nullable=False, server_default=""))
    op.add_column("results", sa.Column("batch_id", sa.String(256)))
    op.add_column("results", sa.Column("line", sa.Integer))
    op.add_column("results", sa.Column("claim_json", sa.Text))
    op.create_index("results_by_batch", "results", ["batch_id", "line"])
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(256), primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("lane", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("http_status", sa.Integer),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("topic", sa.Text),
        sa.Column("partition", sa.Integer),
        sa.Column("offset", sa.BigInteger),
        sa.Column("stream", sa.Boolean, nullable=False),
        sa.Column("request", sa.LargeBinary),
        sa.Column("created_at_s", sa.Double, nullable=False),
        sa.Column("deadline_s", sa.Double),
        sa.Column("finished_at_s", sa.Double),
        sa.Column("expires_at_s", sa.Double, nullable=False),
        sa.Column("forgotten", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    op.create_index("jobs_by_tenant", "jobs", ["tenant", "created_at_s", "id"])
    op.create_index("jobs_by_expiry", "jobs", ["expires_at_s"])
    op.create_table(
        "idempotency",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("key", sa.String(256), primary_key=True),
        sa.Column("request_id", sa.String(256), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("created_at_s", sa.Double, nullable=False),
        sa.Column("expires_at_s", sa.Double, nullable=False),
    )
    op.create_index("idempotency_by_expiry", "idempotency", ["expires_at_s"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("idempotency")
    op.drop_table("jobs")
    op.drop_index("results_by_batch", "results")
    for column in ("claim_json", "line", "batch_id", "tenant"):
        op.drop_column("results", column)
