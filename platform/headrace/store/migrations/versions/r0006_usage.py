"""What tenants use in a day; which jobs have not ended."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create them."""
    op.create_table(
        "usage",
        sa.Column("day", sa.Integer, primary_key=True),
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
    )
    op.create_index("jobs_unfinished", "jobs", ["state", "tenant"])


def downgrade() -> None:
    """Drop them."""
    op.drop_index("jobs_unfinished", "jobs")
    op.drop_table("usage")
