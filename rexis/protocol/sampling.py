"""What a sample shows: how likely altered records are to survive it, and how large it must be.

A challenge (:mod:`rexis.protocol.challenge`) draws k of n records without replacement, so that m altered ones all stay
undrawn with probability C(n−m, k)/C(n, k) (hypergeometric), which is at most (1−m/n)^k. ``docs/sampled.md`` says what
these figures rest on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

# Above this many factors exact fractions take too long, and logarithms are used.
_EXACT_FACTORS = 1 << 12
# Error of a logarithm made of four log-gammas of at most 2^20: 4 · 1.4e7 · 2^-53 is 6e-9.
_LOG_ERROR = 1e-8


def exact_survival(records: int, altered: int, sample: int, attempts: int = 1) -> Fraction:
    """Probability that a task with altered records passes one of its attempts, exactly.

    Parameters
    ----------
    records, altered
        Of the task.
    sample
        Records drawn per attempt; more than there are means all.
    attempts
        Independent draws, each with at least `altered` altered records; the first that misses them all counts. They are
        independent because each challenge comes from another block.

    Returns
    -------
    Fraction
        1 − (1 − C(n−m, k)/C(n, k))^attempts. A worker that adapts from attempt to attempt gains nothing by it.

    Raises
    ------
    ValueError
        There are no such numbers of records.
    """
    _require(records, altered, sample, attempts)
    sample = min(sample, records)
    # C(n−m, k)/C(n, k) is symmetric in k and m: the smaller one is the number of factors.
    few, many = min(sample, altered), max(sample, altered)
    once = Fraction(math.perm(records - many, few), math.perm(records, few))
    return 1 - (1 - once) ** attempts


def log_survival(records: int, altered: int, sample: int, attempts: int = 1) -> float:
    """Natural logarithm of :func:`exact_survival`, by log-gamma: within 10⁻⁸ for up to 2²⁰ records. −inf for 0."""
    _require(records, altered, sample, attempts)
    sample = min(sample, records)
    if sample > records - altered:
        return -math.inf
    once = min(0.0, _log_perm(records - altered, sample) - _log_perm(records, sample))
    if once < -36.0:  # e^-36 is lost beside 1: what is left is the union bound
        return min(0.0, once + math.log(attempts))
    caught_always = math.exp(attempts * math.log(-math.expm1(once))) if once < 0.0 else 0.0
    return math.log1p(-caught_always) if caught_always < 0.5 else math.log(_complement(once, attempts))


def survival(records: int, altered: int, sample: int, attempts: int = 1) -> float:
    """:func:`exact_survival` as a float, fast for every size of task."""
    if min(sample, altered) * attempts <= _EXACT_FACTORS:
        return float(exact_survival(records, altered, sample, attempts))
    return math.exp(log_survival(records, altered, sample, attempts))


def job_log_survival(records: int, shard_size: int, altered: int, sample: int, attempts: int = 1) -> float:
    """As :func:`log_survival` for a whole job, each of whose tasks is sampled on its own.

    The altered records lie where they survive best. The logarithm of a task's survival is concave in their number (also
    with several attempts), so they are best spread evenly over tasks of one size; how many go into the last, smaller
    task is found by climbing from the even share.

    Parameters
    ----------
    records, altered
        Of the job.
    shard_size
        Records per task.
    sample, attempts
        Per task.
    """
    _require(records, altered, sample, attempts)
    tasks, rest = divmod(records, shard_size)
    if tasks == 0:
        return log_survival(rest, altered, sample, attempts)
    room, rest_room = shard_size - min(sample, shard_size), rest - min(sample, rest)
    lowest, highest = max(0, altered - tasks * room), min(rest_room, altered)
    if lowest > highest:
        return -math.inf

    def spread(in_rest: int) -> float:
        each, more = divmod(altered - in_rest, tasks)
        total = (tasks - more) * log_survival(shard_size, each, sample, attempts)
        if more:
            total += more * log_survival(shard_size, each + 1, sample, attempts)
        return total + (log_survival(rest, in_rest, sample, attempts) if rest else 0.0)

    best = min(max(altered * rest // records, lowest), highest)
    found = spread(best)
    for step in (1, -1):
        while lowest <= best + step <= highest and (value := spread(best + step)) > found:
            best, found = best + step, value
    return found


def altered_records(records: int, fraction: Fraction) -> int:
    """How many records a fraction is at least: rounded up, and never none."""
    if not 0 < fraction <= 1:
        raise ValueError("the altered fraction lies above 0 and is at most 1")
    return max(1, math.ceil(fraction * records))


def sample_size_for(records: int, fraction: Fraction, confidence: Fraction, attempts: int = 1) -> int:
    """The smallest sample of a task that catches an altered fraction, or more, with this confidence.

    Parameters
    ----------
    fraction
        Of the task's records.
    confidence
        Probability of catching it in every one of `attempts` attempts: above 0, below 1.

    Returns
    -------
    int
        1 … `records`. Never too small; for samples of thousands it may be one too large.
    """
    altered = altered_records(records, fraction)
    allowed = 1 - _checked(confidence)

    def holds(sample: int) -> bool:
        if min(sample, altered) * attempts <= _EXACT_FACTORS:
            return exact_survival(records, altered, sample, attempts) <= allowed
        return log_survival(records, altered, sample, attempts) + _LOG_ERROR <= math.log(allowed)

    return _smallest(holds, records)


def job_sample_size_for(
    records: int, shard_size: int, fraction: Fraction, confidence: Fraction, attempts: int = 1
) -> int:
    """As :func:`sample_size_for`, for a fraction of a whole job's records, wherever they lie.

    Returns
    -------
    int
        Records to draw from each task, 1 … `shard_size`. Never too small, at most one too large.
    """
    altered = altered_records(records, fraction)
    target = math.log(1 - _checked(confidence)) - _LOG_ERROR * -(-records // shard_size)
    return _smallest(
        lambda sample: job_log_survival(records, shard_size, altered, sample, attempts) <= target,
        min(records, shard_size),
    )


def _require(records: int, altered: int, sample: int, attempts: int) -> None:
    if not (0 <= altered <= records and records >= 1 and sample >= 0 and attempts >= 1):
        raise ValueError(f"no {attempts} draws of {sample} from {records} records of which {altered} are altered")


def _checked(confidence: Fraction) -> Fraction:
    if not 0 < confidence < 1:
        raise ValueError("the confidence lies between 0 and 1")
    return confidence


def _log_perm(n: int, k: int) -> float:
    """log(n·(n−1)⋯(n−k+1))."""
    return math.lgamma(n + 1) - math.lgamma(n - k + 1)


def _complement(log_once: float, attempts: int) -> float:
    """1 − (1 − q)^attempts, without cancellation."""
    return -math.expm1(attempts * math.log1p(-math.exp(log_once)))


def _smallest(holds: Callable[[int], bool], most: int) -> int:
    """The smallest number in 1 … `most` that holds; `most` does, and whatever lies above one that does."""
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
