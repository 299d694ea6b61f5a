"""The history of states; what became of a lease's evidence and how far an anchor is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "event",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("entity", sa.String(), nullable=False),
        sa.Column("job", sa.BigInteger(), nullable=True),
        sa.Column("start", sa.BigInteger(), nullable=True),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("subject", sa.String(), nullable=True),
        sa.Column("before", sa.String(), nullable=True),
        sa.Column("after", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_event_job", "event", ["job", "id"])
    op.create_index("ix_event_task", "event", ["job", "start", "id"])
    with op.batch_alter_table("lease") as batch:
        batch.add_column(sa.Column("evidence", sa.Text(), nullable=True))
    op.execute("UPDATE lease SET evidence = 'accepted' WHERE outcome = 'accepted'")
    op.execute("UPDATE lease SET evidence = 'refused' WHERE outcome = 'refused'")
    with op.batch_alter_table("anchor") as batch:
        batch.add_column(sa.Column("state", sa.Text(), nullable=False, server_default="planned"))
        batch.create_index("ix_anchor_state", ["state"])
    op.execute("UPDATE anchor SET state = 'mined' WHERE block IS NOT NULL")
