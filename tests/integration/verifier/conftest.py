"""The recorded chain and one ezkl process, once for all vectors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest

import circuits.verifying
from circuits.process import EzklProcess
from contracts.devchain import DevChain
from tests.vectors.certificates.recorded_chain import recorded_chain


@pytest.fixture(scope="session")
def chain_of_vectors() -> Iterator[DevChain]:
    with recorded_chain() as dev:
        yield dev


@pytest.fixture(scope="module", autouse=True)
def one_ezkl_process() -> Iterator[None]:
    """The verifier starts a child for each call, which takes a fifth of a second; here a module's tests share one."""
    with EzklProcess(memory_limit=16 << 30) as ezkl, pytest.MonkeyPatch.context() as patch:
        patch.setattr(circuits.verifying, "_process", lambda: nullcontext(ezkl))
        yield
