"""Migrations of the store, one module a schema version, written with Alembic's operations for both databases.

The version stands in the table `schema_version`, where releases that know no migrations look for it and refuse what is
newer; Alembic's own table is not used.
"""

from collections.abc import Callable, Mapping

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection

from magnet.store.migrations import v0002_owner_index

STEPS: Mapping[int, Callable[[Operations], None]] = {2: v0002_owner_index.upgrade}
"""The step that leads to each version from the one before."""


def migrate(connection: Connection, version: int) -> None:
    """Run every step after this version, in order, in the transaction that the connection is in."""
    operations = Operations(MigrationContext.configure(connection))
    for number in sorted(STEPS):
        if number > version:
            STEPS[number](operations)
