"""How a step changes tables that are full and in use: no lock that others wait for is held for long.

What takes long runs first, each statement for itself, under locks that neither readers nor writers notice: an index is
built CONCURRENTLY (on every partition; the parent then adopts them), a constraint is validated after it was added, rows
are filled in by batches. A step that broke off there is begun again, so each of these finds what is done already, and
an index that was left half built is built anew. What must be done at once comes last, in the step's own transaction,
behind ``take``. Waiting for a lock is bounded by ``lock_timeout``; who runs the steps tries again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import op
from sqlalchemy import text

_BATCH = 20_000
# Building waits for transactions that began before it, and nobody waits for the building.
_BUILD_TIMEOUT = "15min"
# Each of many partitions may be waited for: together no longer than this.
_TAKE_TIMEOUT = "1s"

_LEAVES = """
    SELECT relid::regclass::text FROM pg_partition_tree(to_regclass(:table)) WHERE isleaf ORDER BY 1
"""
_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"
_CONSTRAINT = "SELECT convalidated FROM pg_constraint WHERE conrelid = to_regclass(:table) AND conname = :name"


@contextmanager
def each_for_itself() -> Iterator[None]:
    """Inside, every statement commits for itself. What the step did before is committed, too: begin with this."""
    with op.get_context().autocommit_block():
        yield


def index(table: str, name: str, rest: str) -> None:
    """Build an index (``rest``: its columns and condition) while the table is used. Of a partitioned table each
    partition gets its own, named like the parent's; say ``adopt`` at the end."""
    for leaf in op.get_bind().execute(text(_LEAVES), {"table": table}).scalars().all() or [table]:
        _build(leaf, leaf + name.removeprefix(table), rest)


def adopt(table: str, name: str, rest: str) -> None:
    """Make the parent's index of those its partitions have: only the catalogue changes."""
    op.execute(f"CREATE INDEX {name} ON {table} {rest}")


def check(table: str, name: str, condition: str) -> None:
    """Add a CHECK; rows that are there already are looked at while others go on writing."""
    found = op.get_bind().execute(text(_CONSTRAINT), {"table": table, "name": name}).scalar()
    if found is None:
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID")
    if not found:
        op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")


def take(*tables: str) -> None:
    """Have these tables for this transaction alone, in the order in which bookings lock them; what follows changes the
    catalogue or a few rows. All of them are there soon, or none is taken."""
    before = op.get_bind().execute(text("SHOW statement_timeout")).scalar()
    op.execute(f"SET LOCAL statement_timeout = '{_TAKE_TIMEOUT}'")
    op.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE")
    op.execute(f"SET LOCAL statement_timeout = '{before}'")


def in_batches(table: str, key: str, below: str, fill: str) -> None:
    """Run ``fill`` for one range of the key after the other (``:after`` excluded, ``:upto`` included), from the first
    row to the last one below this."""
    bind, after = op.get_bind(), "00000000-0000-0000-0000-000000000000"
    edge = text(
        f"SELECT max({key}::text) FROM (SELECT {key} FROM {table} WHERE {key} > CAST(:after AS uuid) "
        f"AND {key} < CAST(:below AS uuid) ORDER BY {key} LIMIT {_BATCH}) AS batch"
    )
    while upto := bind.execute(edge, {"after": after, "below": below}).scalar():
        bind.execute(text(fill), {"after": after, "upto": upto})
        after = upto


def _build(table: str, name: str, rest: str) -> None:
    valid = op.get_bind().execute(text(_VALID), {"name": name}).scalar()
    if valid:
        return
    with _patience():
        if valid is False:
            op.execute(f"DROP INDEX CONCURRENTLY {name}")
        op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {table} {rest}")


@contextmanager
def _patience() -> Iterator[None]:
    before = op.get_bind().execute(text("SHOW lock_timeout")).scalar()
    op.execute(f"SET lock_timeout = '{_BUILD_TIMEOUT}'")
    try:
        yield
    finally:
        op.execute(f"SET lock_timeout = '{before}'")
