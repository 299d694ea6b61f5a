"""The history of the tables: one file a step in ``versions``, applied in their order (Alembic). No step goes back.

To change a table:

1. Change it in ``coordinator/tables.py``.
2. Copy the newest file of ``versions`` to ``NNNN_name.py`` with the next number; set ``revision`` to the number and
   ``down_revision`` to that of the file before it; write what changes into ``upgrade``. Write names and types out and
   import no table: tables go on changing, a step must not. SQLite cannot alter a column: use
   ``with op.batch_alter_table("task") as batch: batch.add_column(…)``, which works on both databases.
3. A new column of a table with rows is nullable or has a ``server_default``: rows are there already, and coordinators
   of the version before may still be running and know nothing of it. Take columns and tables away one version after the
   code that used them.
4. Run ``pytest tests/unit/coordinator/test_migrations.py``. It compares tables.py with what the steps give, on both
   databases, says what differs, and takes a database of version 7 with jobs in it through all steps.

How and when the steps are applied is in ``coordinator/schema.py``.
"""
