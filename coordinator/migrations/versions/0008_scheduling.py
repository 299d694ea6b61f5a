"""What scheduling looks at: needs, rank and deadline of jobs, shares of requesters, standing of workers; and indices
that hold only what waits or is open, so that a queue's length does not matter.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_OPEN = "state IN ('queued', 'running')"


def upgrade() -> None:
    _workers()
    _jobs()
    _tasks()


def _workers() -> None:
    with op.batch_alter_table("worker") as batch:
        batch.add_column(sa.Column("gpu_bytes", sa.BigInteger(), nullable=False, server_default="0"))
        batch.add_column(sa.Column("modalities", sa.Text(), nullable=False, server_default=""))
        batch.add_column(sa.Column("slots", sa.Integer(), nullable=True))
        for name in ("penalty", "penalty_at", "barred_until"):
            batch.add_column(sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "standing",
        sa.Column("worker", sa.String(), nullable=False),
        sa.Column("tier", sa.String(), nullable=False),
        sa.Column("accepted", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("failed", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("refused", sa.BigInteger(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("worker", "tier"),
    )
    op.execute(
        "INSERT INTO standing (worker, tier, accepted, failed, refused) "
        "SELECT worker, tier, sum(accepted), sum(failed), sum(refused) FROM ("
        "SELECT lease.worker, task.tier, 1 AS accepted, 0 AS failed, 0 AS refused "
        "FROM lease JOIN task ON task.task_id = lease.task_id WHERE lease.outcome = 'accepted' "
        "UNION ALL SELECT fault.worker, task.tier, 0, 1, CASE WHEN fault.outcome = 'refused' THEN 1 ELSE 0 END "
        "FROM fault JOIN task ON task.task_id = fault.task_id) AS found GROUP BY worker, tier"
    )


def _jobs() -> None:
    op.create_table(
        "share",
        sa.Column("requester", sa.String(), nullable=False),
        sa.Column("began", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("finished", sa.BigInteger(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("requester"),
    )
    op.create_index("ix_share_began", "share", ["began"])
    op.create_index("ix_share_turn", "share", ["finished", "requester"])
    op.execute(f"INSERT INTO share (requester) SELECT DISTINCT requester FROM job WHERE {_OPEN}")  # noqa: S608
    with op.batch_alter_table("job") as batch:
        batch.add_column(sa.Column("tier", sa.String(), nullable=False, server_default=""))
        batch.add_column(sa.Column("modality", sa.String(), nullable=True))
        batch.add_column(sa.Column("private_records", sa.String(), nullable=True))
        batch.add_column(sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
        batch.add_column(sa.Column("deadline", sa.BigInteger(), nullable=True))
        batch.add_column(sa.Column("planned", sa.BigInteger(), nullable=True))
        batch.add_column(sa.Column("cost", sa.BigInteger(), nullable=False, server_default="1"))
        for name in ("needed_bytes", "gpu_bytes", "rank", "retried_at"):
            batch.add_column(sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    op.execute("UPDATE job SET rank = submitted_at")
    for name in ("tier", "needed_bytes", "private_records"):
        first = f"(SELECT {name} FROM task WHERE task.job_id = job.job_id LIMIT 1)"  # noqa: S608
        op.execute(f"UPDATE job SET {name} = {first} WHERE EXISTS {first}")  # noqa: S608
    _partial("ix_job_open", "job", ["requester", "rank"], _OPEN)
    _partial("ix_job_deadline", "job", ["deadline"], f"deadline IS NOT NULL AND {_OPEN}")
    _partial("ix_job_planned", "job", ["planned"], "planned IS NOT NULL")


def _tasks() -> None:
    with op.batch_alter_table("task") as batch:
        batch.add_column(sa.Column("ready_at", sa.BigInteger(), nullable=False, server_default="0"))
    with op.batch_alter_table("fault") as batch:
        batch.add_column(sa.Column("forgiven", sa.Boolean(), nullable=False, server_default=sa.false()))
    for table, name in (
        ("task", "job_id"),
        ("task", "state"),
        ("lease", "worker"),
        ("lease", "expires_at"),
        ("lease", "outcome"),
        ("fault", "task_id"),
        ("fault", "worker"),
    ):
        op.drop_index(f"ix_{table}_{name}", table)
    op.create_index("ix_fault_task", "fault", ["task_id", "worker"])
    op.create_index("ix_task_place", "task", ["job_id", "start"])
    op.create_index("ix_task_job_state", "task", ["job_id", "state", "start"])
    _partial("ix_task_waits", "task", ["job_id", "ready_at", "start"], "state = 'pending'")
    _partial("ix_task_tried", "task", ["ready_at"], "state = 'pending' AND ready_at > 0")
    _partial("ix_task_accepted", "task", ["submitted_at", "job_id", "start"], "state = 'accepted'")
    _partial("ix_lease_open", "lease", ["expires_at"], "outcome = 'open'")
    _partial("ix_lease_held", "lease", ["worker"], "outcome = 'open'")
    failed = "EXISTS (SELECT 1 FROM fault WHERE fault.task_id = task.task_id)"
    op.execute(f"UPDATE task SET ready_at = 1 WHERE state = 'pending' AND {failed}")  # noqa: S608


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
