"""What is kept in SQL: SQLite when embedded, PostgreSQL in production, by one code path.

The only room that imports SQLAlchemy; Alembic is imported by `migrate` alone, because a role that reads and
writes need not carry it.
"""

from headrace.contracts.errors import SetupError

try:
    import sqlalchemy as sqlalchemy
except ModuleNotFoundError:
    raise SetupError("The database needs SQLAlchemy: pip install 'headrace[store]'") from None
