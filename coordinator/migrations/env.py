"""What Alembic runs: apply steps on the connection that :mod:`coordinator.schema` opened and locked."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
