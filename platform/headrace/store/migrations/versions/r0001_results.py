"""The archive of final results."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create `results`."""
    op.create_table(
        "results",
        sa.Column("request_id", sa.String(256), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("http_status", sa.Integer, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("content_type", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("created_at_s", sa.Double, nullable=False),
        sa.Column("expires_at_s", sa.Double, nullable=False),
    )
    op.create_index("results_by_expiry", "results", ["expires_at_s"])


def downgrade() -> None:
    """Drop `results`."""
    op.drop_table("results")
