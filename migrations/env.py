"""Alembic's entrance: runs the steps on the connection that `farebox/migrate.py` hands in, each in its transaction."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"], transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
