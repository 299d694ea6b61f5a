"""Transactions are written down before they are sent; leaves hold their digest, and paths are computed from them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_LIVE = sa.text("status IN ('open', 'mined', 'final')")


def upgrade() -> None:
    op.create_table(
        "chain_transaction",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("nonce", sa.BigInteger(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("raw", sa.Text(), nullable=True),
        sa.Column("tx_hash", sa.String(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("signed_at", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("trouble", sa.Text(), nullable=True),
        sa.Column("block", sa.BigInteger(), nullable=True),
        sa.Column("block_hash", sa.String(), nullable=True),
        sa.Column("gas_used", sa.BigInteger(), nullable=True),
        sa.Column("cost_gwei", sa.BigInteger(), nullable=True),
        sa.Column("reverted", sa.Boolean(), nullable=False),
        sa.Column("watched", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_chain_transaction_status", "chain_transaction", ["status"])
    for name, columns in (("nonce", ["account", "nonce"]), ("subject", ["account", "purpose", "subject"])):
        op.create_index(
            f"ix_chain_transaction_{name}",
            "chain_transaction",
            columns,
            unique=True,
            sqlite_where=_LIVE,
            postgresql_where=_LIVE,
        )
    op.create_table(
        "signed_transaction",
        sa.Column("tx_hash", sa.String(), nullable=False),
        sa.Column("transaction", sa.Integer(), nullable=False),
        sa.Column("max_fee", sa.BigInteger(), nullable=False),
        sa.Column("priority_fee", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["transaction"], ["chain_transaction.id"]),
        sa.PrimaryKeyConstraint("tx_hash"),
    )
    op.create_index("ix_signed_transaction_transaction", "signed_transaction", ["transaction"])
    for table in ("commitment", "certified_record", "anchor"):
        with op.batch_alter_table(table) as batch:
            batch.add_column(sa.Column("transaction", sa.Integer(), nullable=True))
            batch.create_foreign_key(f"{table}_transaction_fkey", "chain_transaction", ["transaction"], ["id"])
            batch.create_index(f"ix_{table}_transaction", ["transaction"])
            if table == "anchor":
                batch.add_column(sa.Column("planned_at", sa.BigInteger(), nullable=False, server_default="0"))
                batch.add_column(sa.Column("block_hash", sa.String(), nullable=True))
    op.execute("UPDATE anchor SET state = 'final' WHERE block IS NOT NULL")
    op.execute("UPDATE anchor SET state = 'planned' WHERE block IS NULL")
    with op.batch_alter_table("anchor_leaf") as batch:
        batch.add_column(sa.Column("statement_digest", sa.String(), nullable=False, server_default=""))
        batch.drop_column("path")
    of_task = "SELECT task.statement_digest FROM task WHERE task.task_id = anchor_leaf.task_id"
    op.execute(f"UPDATE anchor_leaf SET statement_digest = ({of_task})")  # noqa: S608 - a constant
