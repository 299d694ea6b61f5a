"""``rexis policy``: what a policy's numbers are good for."""

from __future__ import annotations

from typing import Annotated

import typer

from rexis.cli.console import emit, say
from rexis.cli.options import Json, fraction

app = typer.Typer(help="Choose a policy's numbers.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command("sample-size")
def sample_size(
    records: Annotated[int, typer.Option(min=1, help="The job's records.")],
    altered: Annotated[str, typer.Option(metavar="FRACTION", help="The cheat to catch, such as 5% or 0.05.")],
    confidence: Annotated[
        str, typer.Option(metavar="FRACTION", help="Catch it with at least this probability, such as 99.9%.")
    ] = "99%",
    shard_size: Annotated[int, typer.Option(min=1, max=1 << 20, help="Records per task, as for `rexis submit`.")] = 256,
    max_attempts: Annotated[
        int, typer.Option(min=1, max=100, help="Commitments allowed per task, as for `rexis submit`.")
    ] = 3,
    draws: Annotated[
        int,
        typer.Option(
            min=1,
            help="Block hashes that a proposer who works for the worker may try per commitment. 1: there is none.",
        ),
    ] = 1,
    as_json: Json = False,
) -> None:
    """The sample size (`rexis submit -k`) that catches altered outputs at tier sampled.

    Altered records lie where they are caught least. `job` catches the fraction of all the job's records; `task` catches
    it in each task alone, also if only one task has altered records.
    """
    import math

    from rexis.protocol.sampling import (
        altered_records,
        job_log_survival,
        job_sample_size_for,
        log_survival,
        sample_size_for,
    )

    share, wanted = fraction(altered, "--altered"), fraction(confidence, "--confidence")
    attempts, shard_size = max_attempts * draws, min(shard_size, records)
    tasks, rest = divmod(records, shard_size)
    sizes = [shard_size] * (tasks > 0) + [rest] * (rest > 0)
    total = altered_records(records, share)
    for_job = job_sample_size_for(records, shard_size, share, wanted, attempts)
    for_task = max(sample_size_for(size, share, wanted, attempts) for size in sizes)
    task_survival = max(log_survival(size, altered_records(size, share), for_task, attempts) for size in sizes)
    found = {
        "job": _row(for_job, records, shard_size, job_log_survival(records, shard_size, total, for_job, attempts)),
        "task": _row(for_task, records, shard_size, task_survival),
    }
    if as_json:
        emit({"records": records, "tasks": tasks + (rest > 0), "altered": total, "attempts": attempts, **found})
        return
    per_task = math.ceil(share * shard_size)
    say(f"{records} records in {tasks + (rest > 0)} tasks of at most {shard_size}, {attempts} draws per task")
    for name, what in (
        ("job", f"{total} or more altered records in the job"),
        ("task", f"{per_task} or more in one full task"),
    ):
        row = found[name]
        say(f"-k {row['sampleSize']}: {what} are caught with {row['caught']:.6g}; {row['proofs']} proofs")


def _row(sample: int, records: int, shard_size: int, log_survives: float) -> dict[str, float]:
    import math

    tasks, rest = divmod(records, shard_size)
    proofs = tasks * min(sample, shard_size) + min(sample, rest)
    return {
        "sampleSize": sample,
        "proofs": proofs,
        "caught": -math.expm1(log_survives),
        "survives": math.exp(log_survives),
    }
