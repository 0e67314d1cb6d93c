"""Webhooks: endpoints, deliveries and every attempt."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create them."""
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.String(256), primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("events_json", sa.Text, nullable=False),
        sa.Column("secret", sa.Text, nullable=False),
        sa.Column("old_secret", sa.Text),
        sa.Column("old_until_s", sa.Double),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("disabled_reason", sa.Text),
        sa.Column("created_at_s", sa.Double, nullable=False),
    )
    op.create_index("webhook_endpoints_by_tenant", "webhook_endpoints", ["tenant", "created_at_s", "id"])
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.String(256), primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("endpoint_id", sa.String(256)),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("subject_id", sa.String(256), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_at_s", sa.Double),
        sa.Column("created_at_s", sa.Double, nullable=False),
        sa.Column("finished_at_s", sa.Double),
        sa.Column("expires_at_s", sa.Double, nullable=False),
    )
    op.create_index("webhook_deliveries_by_due", "webhook_deliveries", ["state", "next_at_s"])
    op.create_index("webhook_deliveries_by_endpoint", "webhook_deliveries", ["endpoint_id", "created_at_s"])
    op.create_index("webhook_deliveries_by_expiry", "webhook_deliveries", ["expires_at_s"])
    op.create_table(
        "webhook_attempts",
        sa.Column("delivery_id", sa.String(256), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("at_s", sa.Double, nullable=False),
        sa.Column("duration_ms", sa.Double, nullable=False),
        sa.Column("http_status", sa.Integer),
        sa.Column("error", sa.Text),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("webhook_attempts")
    op.drop_table("webhook_deliveries")
    op.drop_table("webhook_endpoints")
