"""What is kept in SQL: SQLite when embedded, PostgreSQL in production, by one code path.

The only room that imports SQLAlchemy; Alembic is imported by `upgrade` alone, because a role that reads and
writes need not carry it.
"""

from importlib.util import find_spec

from headrace.contracts.errors import SetupError

if find_spec("sqlalchemy") is None:
    raise SetupError("The database needs SQLAlchemy: pip install 'headrace[store]'")
