"""What the operator of a verifier service decides."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from contracts.accountability import Accountability
from rexis.web.clients import Networks
from verifier.confined import Bounds

DEFAULT_BYTES = 16 << 20
DEFAULT_MEMORY = 4 << 30
DEFAULT_SECONDS = 120


@dataclass(frozen=True)
class ServiceSettings:
    """The same for every certificate, and named at ``/v1/about``.

    Attributes
    ----------
    rpc
        A chain node that the operator trusts; without it the chain's steps are skipped.
    artifacts
        Folder with files named ``sha256-<hex>``: SRS files, and base models of trainings.
    max_bytes
        Of a certificate.
    bounds
        Of one verification.
    at_once
        Verifications at a time; four times as many wait, others are refused.
    rate, burst
        Certificates a second and at once from one client; a rate of 0 for no limit.
    patience_s
        How long a body may stop.
    proxies
        Whose ``X-Forwarded-For`` is believed.
    quorum
        Manifest of the validators whose verdicts count; without it certificates that want any are undecided.
    examples
        Folder with certificates that the desk offers to look at; everybody can read them.
    """

    rpc: str | None = None
    artifacts: Path | None = None
    allow_development_chain: bool = False
    allow_development_srs: bool = False
    max_bytes: int = DEFAULT_BYTES
    bounds: Bounds = field(default_factory=lambda: Bounds(DEFAULT_MEMORY, DEFAULT_SECONDS))
    at_once: int = field(default_factory=lambda: os.cpu_count() or 1)
    rate: float = 0.5
    burst: int = 10
    patience_s: float = 20.0
    proxies: Networks = ()
    https: bool = False
    examples: Path | None = None
    quorum: Accountability | None = None
