"""Validators: what they signed, why they did not, and their verdicts on chain."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    with op.batch_alter_table("job") as job:
        job.add_column(sa.Column("validators", sa.Integer(), nullable=False, server_default="0"))
        job.add_column(sa.Column("draft_digest", sa.String(), nullable=True))
    op.create_table(
        "validator_signature",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("verdict", sa.Integer(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"]),
        sa.PrimaryKeyConstraint("task_id", "account", "verdict"),
    )
    op.create_table(
        "abstention",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.job_id"]),
        sa.PrimaryKeyConstraint("job_id", "account"),
    )
    op.create_table(
        "validation",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("share", sa.Integer(), nullable=False),
        sa.Column("transaction", sa.Integer(), nullable=True),
        sa.Column("verdict", sa.Integer(), nullable=True),
        sa.Column("signers", sa.Integer(), nullable=True),
        sa.Column("tx_hash", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"]),
        sa.ForeignKeyConstraint(["transaction"], ["chain_transaction.id"]),
        sa.PrimaryKeyConstraint("task_id"),
    )
    op.create_index("ix_validation_transaction", "validation", ["transaction"])
