"""Alembic runs this file at each migration; the connection and its transaction are `store.upgrade`'s."""

from alembic import context

from headrace.store.schema import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
)
context.run_migrations()
