"""Payments: who pays a job in, whether they have, and how each task's payment stands."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    with op.batch_alter_table("job") as job:
        job.add_column(sa.Column("payer", sa.String(), nullable=True))
        job.add_column(sa.Column("unfunded", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index(
        "ix_job_payer",
        "job",
        ["payer"],
        sqlite_where=sa.text("payer IS NOT NULL"),
        postgresql_where=sa.text("payer IS NOT NULL"),
    )
    op.create_table(
        "payment",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("look_at", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"]),
        sa.PrimaryKeyConstraint("task_id"),
    )
