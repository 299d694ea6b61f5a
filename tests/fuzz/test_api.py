"""The HTTP API against its own description: whatever is sent, no fault of ours, and only answers that are described.

``REXIS_FUZZ_EXAMPLES`` is how many requests each operation gets (`make test-fuzz` asks for more).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.python.asgi import ASGIClient
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from coordinator.app import create_app, described_app
from rexis.api import Role, WorkerRegistration
from rexis.protocol.digests import sha256
from rexis.protocol.policy import Tier
from rexis.protocol.signing import address_of, new_account
from tests.unit.coordinator.fakes import MODEL_DIGEST, FakeLedger, make_coordinator
from tests.unit.coordinator.scene import Scene
from tests.unit.coordinator.test_recovery import finish

EXAMPLES = int(os.environ.get("REXIS_FUZZ_EXAMPLES", "6"))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
WHO = ["everything", "everything", "nobody", "everything", *Role]


class Stage:
    """A coordinator with a finished and a running job, and a token for each role."""

    def __init__(self, folder: object) -> None:
        operator, ledger = new_account(), FakeLedger(new_account())
        made = make_coordinator(
            folder,  # type: ignore[arg-type]
            ledger,
            operators=[address_of(operator)],
            requests_per_second=0,
            stranger_requests_per_second=0,
        )
        self.scene = scene = Scene(made, ledger)
        scene.publish()
        self.job = scene.submit()
        worker = scene.do_all()
        finish(scene)
        scene.submit(nonce=sha256(b"running"))
        lease = scene.lease(worker)
        made.bell.stop()  # nobody waits for work
        everything = scene.requester
        made.members.give(
            address_of(operator), address_of(everything), [role for role in Role if role != Role.OPERATOR]
        )
        made.workers.register(
            address_of(everything),
            WorkerRegistration(name="w", provider="CPU", tiers=[Tier.COMMIT], memory_bytes=1),
        )
        self.names = {
            "digest": str(MODEL_DIGEST),
            "epoch": 1,
            "job_id": str(self.job.job_id),
            "task_id": str(self.job.tasks[0].task_id),
            "lease_id": lease.lease_id,
            "upload_id": made.uploads.begin(address_of(everything), sha256(b"to come"), 7)[0].upload_id,
            "address": address_of(new_account()),
        }
        self.client = ASGIClient(create_app(made))  # its lifespan, so its background loops, do not begin
        self.accounts = {"everything": everything, Role.OPERATOR: operator}
        for role in Role:
            if role != Role.OPERATOR:
                account = new_account()
                made.members.give(address_of(operator), address_of(account), [role])
                self.accounts[role] = account
        self.tokens = {name: scene.token(account) for name, account in self.accounts.items()}

    def headers(self, who: str, *, once: bool) -> dict[str, str]:
        """Of a request of `who`; with `once` a token that nobody else has."""
        if who == "nobody":
            return {"Host": "127.0.0.1"}
        token = self.scene.token(self.accounts[who]) if once else self.tokens[who]
        return {"Host": "127.0.0.1", "Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(tmp_path_factory.mktemp("fuzz"))
    yield made
    made.scene.coordinator.close()


# A batch of evidence takes a minute to make up from its schema. One item of it is POST /v1/leases/{lease_id}/evidence.
API = schemathesis.openapi.from_asgi("/openapi.json", described_app()).exclude(path="/v1/evidence")


@API.given(who=st.sampled_from(WHO), real=st.booleans())
@API.parametrize()
@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
def test_whatever_is_sent_is_answered_as_described(stage: Stage, case: schemathesis.Case, who: str, real: bool) -> None:
    headers = stage.headers(who, once=case.method == "DELETE" and case.path == "/v1/auth/token")
    if real:
        case.path_parameters.update(
            {name: value for name, value in stage.names.items() if name in case.path_parameters}
        )
    case.call_and_validate(headers=headers, checks=CHECKS, session=stage.client)
