"""All cases, by what they attack. Importing a module declares its cases."""

from tests.vectors.certificates.attacks import (
    chain,
    circuits,
    documents,
    honest,
    onsite,
    proofs,
    requests,
    rungs,
    segments,
    tasks,
    validators,
)

__all__ = [
    "chain",
    "circuits",
    "documents",
    "honest",
    "onsite",
    "proofs",
    "requests",
    "rungs",
    "segments",
    "tasks",
    "validators",
]
