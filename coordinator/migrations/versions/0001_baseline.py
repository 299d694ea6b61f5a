"""The tables of version 7, the last one before there were steps. A database that has them is taken over as it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "anchor",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("root", sa.String(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("since_block", sa.BigInteger(), nullable=False),
        sa.Column("anchor_id", sa.BigInteger(), nullable=True),
        sa.Column("block", sa.BigInteger(), nullable=True),
        sa.Column("tx_hash", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "dataset",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("shape", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "job",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("requester", sa.String(), nullable=False),
        sa.Column("submitted_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("signature", sa.String(), nullable=False),
        sa.Column("rung_claim", sa.Text(), nullable=True),
        sa.Column("certifying", sa.Boolean(), nullable=False),
        sa.Column("output_width", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("certificate_digest", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_index("ix_job_requester", "job", ["requester"])
    op.create_index("ix_job_state", "job", ["state"])
    op.create_index("ix_job_submitted_at", "job", ["submitted_at"])
    op.create_table(
        "login",
        sa.Column("message_digest", sa.String(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("message_digest"),
    )
    op.create_index("ix_login_expires_at", "login", ["expires_at"])
    op.create_table(
        "model",
        sa.Column("model_digest", sa.String(), nullable=False),
        sa.Column("key_epoch", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("circuit", sa.Text(), nullable=False),
        sa.Column("vka", sa.Text(), nullable=False),
        sa.Column("needed_bytes", sa.BigInteger(), nullable=False),
        sa.Column("rung_claim", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("model_digest", "key_epoch"),
    )
    op.create_table(
        "reader",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("digest", "address"),
    )
    op.create_table(
        "schema_version", sa.Column("version", sa.Integer(), nullable=False), sa.PrimaryKeyConstraint("version")
    )
    op.create_table(
        "secret",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "token",
        sa.Column("token_digest", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token_digest"),
    )
    op.create_index("ix_token_expires_at", "token", ["expires_at"])
    op.create_table(
        "worker",
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("tiers", sa.String(), nullable=False),
        sa.Column("datasets", sa.Text(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("address"),
    )
    op.create_table(
        "job_blob",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.job_id"]),
        sa.PrimaryKeyConstraint("job_id", "digest"),
    )
    op.create_index("ix_job_blob_digest", "job_blob", ["digest"])
    op.create_table(
        "task",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("tier", sa.String(), nullable=False),
        sa.Column("needed_bytes", sa.BigInteger(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("private_records", sa.String(), nullable=True),
        sa.Column("submitted_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("lease_id", sa.String(), nullable=True),
        sa.Column("statement_digest", sa.String(), nullable=True),
        sa.Column("evidence_digest", sa.String(), nullable=True),
        sa.Column("outputs_digest", sa.String(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("accepted_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["job.job_id"]),
        sa.PrimaryKeyConstraint("task_id"),
    )
    op.create_index("ix_task_job_id", "task", ["job_id"])
    op.create_index("ix_task_state", "task", ["state"])
    op.create_table(
        "anchor_leaf",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("anchor", sa.Integer(), nullable=False),
        sa.Column("leaf_index", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["anchor"], ["anchor.id"]),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"]),
        sa.PrimaryKeyConstraint("task_id"),
    )
    op.create_index("ix_anchor_leaf_anchor", "anchor_leaf", ["anchor"])
    op.create_table(
        "certified_record",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("record_index", sa.BigInteger(), nullable=False),
        sa.Column("tx_hash", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"]),
        sa.PrimaryKeyConstraint("task_id", "record_index"),
    )
    op.create_table(
        "fault",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("worker", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("committed", sa.Boolean(), nullable=False),
        sa.Column("helping", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_fault_task_id", "fault", ["task_id"])
    op.create_index("ix_fault_worker", "fault", ["worker"])
    op.create_table(
        "lease",
        sa.Column("lease_id", sa.String(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("worker", sa.String(), nullable=False),
        sa.Column("nonce", sa.String(), nullable=False),
        sa.Column("granted_at", sa.BigInteger(), nullable=False),
        sa.Column("progressed_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("progress", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"]),
        sa.PrimaryKeyConstraint("lease_id"),
    )
    op.create_index("ix_lease_expires_at", "lease", ["expires_at"])
    op.create_index("ix_lease_outcome", "lease", ["outcome"])
    op.create_index("ix_lease_task_id", "lease", ["task_id"])
    op.create_index("ix_lease_worker", "lease", ["worker"])
    op.create_table(
        "commitment",
        sa.Column("lease_id", sa.String(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("statement_digest", sa.String(), nullable=False),
        sa.Column("since_block", sa.BigInteger(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("block", sa.BigInteger(), nullable=True),
        sa.Column("tx_hash", sa.String(), nullable=True),
        sa.Column("challenge_block_hash", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["lease_id"], ["lease.lease_id"]),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"]),
        sa.PrimaryKeyConstraint("lease_id"),
    )
    op.create_index("ix_commitment_task_id", "commitment", ["task_id"])
    op.create_table(
        "piece",
        sa.Column("piece_id", sa.String(), nullable=False),
        sa.Column("lease_id", sa.String(), nullable=False),
        sa.Column("segment", sa.Integer(), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("needed_bytes", sa.BigInteger(), nullable=False),
        sa.Column("values_digest", sa.String(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("worker", sa.String(), nullable=True),
        sa.Column("progressed_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("progress", sa.String(), nullable=True),
        sa.Column("proofs_digest", sa.String(), nullable=True),
        sa.Column("left_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["lease_id"], ["lease.lease_id"]),
        sa.PrimaryKeyConstraint("piece_id"),
    )
    op.create_index("ix_piece_lease_id", "piece", ["lease_id"])
    op.create_index("ix_piece_state", "piece", ["state"])
    op.create_index("ix_piece_worker", "piece", ["worker"])
