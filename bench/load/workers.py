"""Simulated workers: ``python -m bench.load.workers PLAN.json`` works until its time is up and writes what it saw.

Each has a wallet, a token and a registration of its own. Outputs are computed beforehand (the load is on the
coordinator), but every statement is built from its lease, put over a Merkle root of its outputs and signed. The client
is aiohttp and not the SDK, which would cost more than the coordinator does.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import aiohttp
import numpy as np
from eth_account.signers.local import LocalAccount

from rexis.api import (
    EvidenceBatch,
    EvidenceResults,
    Lease,
    LeaseRequest,
    Leases,
    LoginChallenge,
    LoginRequest,
    TaskEvidence,
    Token,
    TokenRequest,
    VerdictView,
    WorkerRegistration,
)
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.evidence import Evidence, Measured
from rexis.protocol.parsing import Strict
from rexis.protocol.policy import Tier
from rexis.protocol.records import Floats, Salts, output_format, output_salts
from rexis.protocol.signing import address_of, new_account, sign_digest, sign_text
from rexis.protocol.statement import statement_for
from rexis.protocol.tensors import pack_outputs

_PROVIDER = "CPUExecutionProvider"
_WAIT_S = 2
_PAUSE_S = 0.2


@dataclass(frozen=True)
class Plan:
    """What a process of workers does.

    Attributes
    ----------
    urls
        Coordinator processes; workers are spread over them.
    at_once
        Tasks that a worker leases and hands in at a time; 1 uses the routes for single ones.
    pace
        Seconds from one turn of a worker to its next, as if it computed meanwhile; 0 for as fast as it is answered.
    arrays
        ``.npz`` file with `outputs` and `salts` of the whole dataset.
    """

    urls: list[str]
    workers: int
    at_once: int
    seconds: float
    pace: float
    arrays: str
    out: str


@dataclass
class Seen:
    """What came back: latencies in seconds by route, with when they were seen; what went wrong; when work began."""

    latencies: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    troubles: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    refused: int = 0
    begun: float = 0.0


class Outputs:
    """Outputs and their roots, made once a shard."""

    def __init__(self, outputs: Floats, salts: Salts) -> None:
        self._outputs, self._salts = outputs, salts
        self._made: dict[tuple[int, int], tuple[bytes, Digest, Digest]] = {}

    def of(self, start: int, count: int) -> tuple[bytes, Digest, Digest]:
        """Blob, its digest, and the root of the output tree."""
        if (start, count) not in self._made:
            rows = self._outputs[start : start + count]
            tree = output_format(Tier.COMMIT, NO_CIRCUIT).tree(rows, output_salts(self._salts[start : start + count]))
            blob = pack_outputs(rows)
            self._made[start, count] = blob, sha256(blob), tree.root
        return self._made[start, count]


class Worker:
    """One of them."""

    def __init__(self, url: str, http: aiohttp.ClientSession, outputs: Outputs, seen: Seen, at_once: int) -> None:
        self._url, self._http, self._outputs, self._seen, self._at_once = url, http, outputs, seen, at_once
        self._account: LocalAccount = new_account()
        self._headers: dict[str, str] = {}

    @cached_property
    def address(self) -> str:
        """Its wallet's address."""
        return address_of(self._account)

    async def sign_in(self) -> None:
        """Token and registration."""
        address = address_of(self._account)
        challenge = LoginChallenge.from_json(await self._post("/v1/auth/challenge", LoginRequest(address=address)))
        answer = TokenRequest(message=challenge.message, signature=sign_text(self._account, challenge.message))
        token = Token.from_json(await self._post("/v1/auth/token", answer))
        self._headers = {"Authorization": f"Bearer {token.token}"}
        await self._post(
            "/v1/workers",
            WorkerRegistration(name="simulated", provider=_PROVIDER, tiers=[Tier.COMMIT], memory_bytes=1 << 30),
        )

    async def work(self, until: float, pace: float) -> None:
        """Lease, do, hand in; and again."""
        turn, due = self._one if self._at_once == 1 else self._several, time.monotonic()
        while time.monotonic() < until:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += pace
            try:
                await turn()
            except (_Refused, aiohttp.ClientError, TimeoutError) as error:
                self._seen.troubles[str(error) or type(error).__name__] += 1
                await asyncio.sleep(_PAUSE_S)

    async def _one(self) -> None:
        leases = await self._leases()
        if not leases:
            return
        (lease,) = leases
        blob, evidence = self._evidence(lease)
        await self._send("PUT", "/v1/blobs/{digest}", f"/v1/blobs/{evidence.outputs_digest}", blob)
        path = f"/v1/leases/{lease.lease_id}/evidence"
        verdict = VerdictView.from_json(await self._post(path, evidence, "/v1/leases/{id}/evidence"))
        self._seen.accepted += verdict.accepted
        self._seen.refused += not verdict.accepted

    async def _several(self) -> None:
        leases = await self._leases()
        if not leases:
            return
        # In a thread: other workers' answers are not read while this one computes, and would seem late.
        batch = await asyncio.to_thread(self._batch, leases)
        results = EvidenceResults.from_json(await self._post("/v1/evidence", batch)).results
        for result in results:
            if result.verdict is not None:
                self._seen.accepted += 1
            else:
                self._seen.refused += 1
                self._seen.troubles[result.problem.detail if result.problem else "no verdict"] += 1

    def _batch(self, leases: list[Lease]) -> EvidenceBatch:
        made = [(lease.lease_id, *self._evidence(lease)) for lease in leases]
        return EvidenceBatch(
            items=[TaskEvidence(lease_id=lease, evidence=evidence, outputs=blob) for lease, blob, evidence in made]
        )

    async def _leases(self) -> list[Lease]:
        body = await self._post("/v1/leases", LeaseRequest(wait_seconds=_WAIT_S, most=self._at_once))
        return Leases.from_json(body).leases if body else []

    def _evidence(self, lease: Lease) -> tuple[bytes, Evidence]:
        blob, digest, root = self._outputs.of(lease.start, lease.count)
        statement = statement_for(
            lease.request, lease.domain, start=lease.start, count=lease.count, output_root=root,
            worker=address_of(self._account), nonce=lease.nonce,
        )  # fmt: skip
        signature = sign_digest(self._account, lease.domain.digest(statement))
        return blob, Evidence(
            statement=statement, signature=signature, outputs_digest=digest, openings=[], proofs=[],
            measured=Measured.nothing(_PROVIDER),
        )  # fmt: skip

    async def _post(self, path: str, document: Strict, route: str | None = None) -> bytes:
        return await self._send("POST", route or path, path, document.to_json())

    async def _send(self, method: str, route: str, path: str, body: bytes) -> bytes:
        begun = time.monotonic()
        async with self._http.request(method, self._url + path, data=body, headers=self._headers) as response:
            answer = await response.read()
        ended = time.monotonic()
        name = f"{method} {route}" + (" (nothing)" if response.status == 204 else "")
        self._seen.latencies[name].append((ended, ended - begun))
        if response.status >= 400:
            raise _Refused(f"{method} {route}: {response.status} {_detail(answer)}")
        return answer


class _Refused(Exception):
    """The coordinator said no."""


def _detail(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["detail"])[:120]
    except (ValueError, KeyError):
        return ""


async def run(plan: Plan) -> Seen:
    """Work as planned."""
    with np.load(plan.arrays) as arrays:
        outputs = Outputs(arrays["outputs"], arrays["salts"])
    seen = Seen()
    connector, patience = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=patience, skip_auto_headers=["User-Agent"]) as http:
        urls = itertools.islice(itertools.cycle(plan.urls), plan.workers)
        workers = [Worker(url, http, outputs, seen, plan.at_once) for url in urls]
        for worker in workers:
            await worker.sign_in()
        seen.latencies.clear()
        seen.begun = time.time()
        until = time.monotonic() + plan.seconds

        async def begin(worker: Worker) -> None:
            await asyncio.sleep(random.uniform(0, max(0.5, plan.pace)))
            await worker.work(until, plan.pace)

        await asyncio.gather(*map(begin, workers))
    return seen


def main() -> None:
    """Read the plan, work, write what was seen."""
    plan = Plan(**json.loads(Path(sys.argv[1]).read_text()))
    seen = asyncio.run(run(plan))
    Path(plan.out).write_text(json.dumps({**vars(seen), "cpu_seconds": time.process_time()}))


if __name__ == "__main__":
    main()
