"""A row for each blob, so that what nobody needs can be collected. What is there already counts as used now."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

from coordinator.times import wall_clock

revision = "0009"
down_revision = "0008"

_NONE = "0x" + "00" * 32
# Everything that names blobs, but the documents of circuits.
_NAMED = (
    ("model", "model_digest"),
    ("dataset", "digest"),
    ("reader", "digest"),
    ("job_blob", "digest"),
    ("job", "certificate_digest"),
    ("task", "evidence_digest"),
    ("task", "outputs_digest"),
    ("piece", "values_digest"),
    ("piece", "proofs_digest"),
)


def upgrade() -> None:
    op.create_table(
        "blob",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.Column("fate", sa.Text(), nullable=False, server_default="live"),
        sa.Column("changed_at", sa.BigInteger(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index("ix_blob_used_at", "blob", ["used_at"])
    op.create_index("ix_blob_fate", "blob", ["fate"])
    # Only finished tasks have these: waiting ones cost nothing.
    for column in ("evidence_digest", "outputs_digest"):
        named = sa.text(f"{column} IS NOT NULL")
        op.create_index(f"ix_task_{column}", "task", [column], sqlite_where=named, postgresql_where=named)
    named = sa.text("certificate_digest IS NOT NULL")
    op.create_index(
        "ix_job_certificate_digest", "job", ["certificate_digest"], sqlite_where=named, postgresql_where=named
    )
    now, bind = wall_clock(), op.get_bind()
    for table, column in _NAMED:
        op.execute(
            f"INSERT INTO blob (digest, used_at) SELECT DISTINCT {column}, {now} FROM {table} "  # noqa: S608
            f"WHERE {column} IS NOT NULL AND {column} NOT IN (SELECT digest FROM blob)"
        )
    add = sa.text(
        "INSERT INTO blob (digest, used_at) SELECT :digest, :now WHERE NOT EXISTS "
        "(SELECT 1 FROM blob WHERE digest = :digest)"
    )
    for (document,) in bind.execute(sa.text("SELECT circuit FROM model")).all():
        circuit = json.loads(document)
        for name in ("settingsDigest", "vkDigest", "srsDigest"):
            if circuit[name] != _NONE:
                bind.execute(add, {"digest": circuit[name], "now": now})
