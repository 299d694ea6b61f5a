"""The client against a server that fails in the ways that servers fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from eth_account.signers.local import LocalAccount

from rexis.api import Info, ModelView, Progress, Stage
from rexis.client import RexisClient, job_request
from rexis.protocol import errors
from rexis.protocol.circuit import NO_CIRCUIT, Circuit, Visibility
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.parsing import ZERO_ADDRESS
from rexis.protocol.policy import Policy, Rung, Tier
from rexis.protocol.records import input_root
from rexis.protocol.signing import recover
from rexis.protocol.tensors import Dataset
from rexis.protocol.typed_data import Domain
from rexis.transport import Retry

from .fake_coordinator import COORDINATOR, FakeCoordinator, Reply, Request

CONTENT = bytes(range(256)) * 400
LEASE = "ab" * 16
PROGRESS = Progress(stage=Stage.PROVE, done=1, total=2)
EXTENDED = {"expiresAt": "2026-11-01T00:00:00Z"}


class TestErrors:
    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            ("malformed", errors.MalformedError),
            ("bad-tensor", errors.TensorError),
            ("digest-mismatch", errors.DigestMismatchError),
            ("merkle-mismatch", errors.MerkleError),
            ("bad-signature", errors.SignatureError),
            ("evidence-rejected", errors.EvidenceError),
            ("too-large", errors.ResourceError),
            ("unavailable", errors.UnavailableError),
            ("not-found", errors.NotFoundError),
            ("conflict", errors.ConflictError),
            ("unauthorised", errors.AuthError),
            ("forbidden", errors.ForbiddenError),
            ("lease-lost", errors.LeaseError),
            ("chain", errors.ChainError),
        ],
    )
    def test_problem_becomes_its_class(
        self, server: FakeCoordinator, client: RexisClient, code: str, kind: type[errors.RexisError]
    ) -> None:
        server.on("GET", "/v1/jobs", Reply.problem(400, code, field="policy.tier", hint="do it so"))
        with pytest.raises(errors.RexisError) as caught:
            client.jobs()
        assert type(caught.value) is kind
        assert caught.value.message == f"detail of {code}"
        assert caught.value.field == "policy.tier"
        assert caught.value.hint == "do it so"
        assert caught.value.retryable is False  # the problem's word goes before the class's

    def test_unknown_code_is_still_an_error(self, server: FakeCoordinator, client: RexisClient) -> None:
        server.on("GET", "/v1/jobs", Reply.problem(418, "teapot"))
        with pytest.raises(errors.RexisError, match="detail of teapot"):
            client.jobs()

    def test_class_is_the_trees_own(self, server: FakeCoordinator, client: RexisClient) -> None:
        class OtherError(errors.ChainError):
            def __init__(self, one: int, two: int) -> None: ...

        server.on("GET", "/v1/jobs", Reply.problem(502, "chain"))
        with pytest.raises(errors.ChainError) as caught:
            client.jobs()
        assert type(caught.value) is errors.ChainError

    def test_server_fault_names_its_request(self, server: FakeCoordinator, client: RexisClient) -> None:
        server.on("GET", "/v1/jobs", Reply.problem(500, "error"))
        with pytest.raises(errors.RexisError, match="request-1"):
            client.jobs()

    def test_proxy_page(self, server: FakeCoordinator, client: RexisClient) -> None:
        server.on("GET", "/v1/jobs", Reply(502, b"<html>bad gateway</html>"))
        with pytest.raises(errors.UnavailableError, match="HTTP 502"):
            client.jobs()

    def test_answer_that_is_no_document(self, server: FakeCoordinator, client: RexisClient) -> None:
        server.on("GET", "/v1/jobs", Reply(200, b'{"jobs": [], "more": 1}'))
        with pytest.raises(errors.MalformedError, match="more"):
            client.jobs()

    def test_nobody_there(self, account: LocalAccount) -> None:
        with (
            RexisClient("http://127.0.0.1:9", account, retry=Retry(attempts=2, base_seconds=0.0)) as client,
            pytest.raises(errors.UnavailableError, match="cannot reach the coordinator") as caught,
        ):
            client.info()
        assert caught.value.hint is not None

    @pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://x", "http://", "http://a:b@c/", "http://x/?q=1"])
    def test_bad_url(self, url: str) -> None:
        with pytest.raises(errors.MalformedError, match="not a coordinator's URL"):
            RexisClient(url)


class TestRetries:
    def test_retryable_problem_is_tried_again(self, server: FakeCoordinator, client: RexisClient) -> None:
        busy = Reply.problem(503, "unavailable", retryable=True)
        server.on("GET", "/v1/jobs", busy, busy, Reply.json({"jobs": []}))
        assert client.jobs() == []
        assert server.count("GET", "/v1/jobs") == 3

    def test_gives_up(self, server: FakeCoordinator, client: RexisClient) -> None:
        server.on("GET", "/v1/jobs", Reply.problem(503, "unavailable", retryable=True))
        with pytest.raises(errors.UnavailableError):
            client.jobs()
        assert server.count("GET", "/v1/jobs") == 3

    def test_final_problem_is_not_tried_again(self, server: FakeCoordinator, client: RexisClient) -> None:
        server.on("GET", "/v1/jobs", Reply.problem(409, "conflict"))
        with pytest.raises(errors.ConflictError):
            client.jobs()
        assert server.count("GET", "/v1/jobs") == 1

    def test_lost_answer_of_an_idempotent_request(self, server: FakeCoordinator, client: RexisClient) -> None:
        path = f"/v1/leases/{LEASE}/heartbeat"
        server.on("POST", path, Reply(200, b"0" * 100, cut_at=3), Reply.json(EXTENDED))
        assert client.heartbeat(LEASE, PROGRESS).expires_at == EXTENDED["expiresAt"]

    def test_lost_answer_of_a_lease_is_not_asked_again(self, server: FakeCoordinator, client: RexisClient) -> None:
        server.on("POST", "/v1/leases", Reply(200, b"0" * 100, cut_at=3))
        with pytest.raises(errors.UnavailableError, match="broke"):
            client.lease(0)
        assert server.count("POST", "/v1/leases") == 1

    def test_no_work(self, server: FakeCoordinator, client: RexisClient) -> None:
        server.on("POST", "/v1/leases", Reply(204))
        assert client.lease(0) is None

    def test_no_challenge_yet(self, server: FakeCoordinator, client: RexisClient) -> None:
        server.on("GET", f"/v1/leases/{LEASE}/challenge", Reply(204))
        assert client.challenge(LEASE, wait_seconds=0.05, poll_seconds=0.02) is None
        assert server.count("GET", f"/v1/leases/{LEASE}/challenge") > 1


class TestSignIn:
    def test_only_when_asked(self, server: FakeCoordinator, client: RexisClient) -> None:
        client.info()
        assert server.count("POST", "/v1/auth/challenge") == 0

    def test_signs_in_on_401_and_again_when_the_token_expires(
        self, server: FakeCoordinator, client: RexisClient
    ) -> None:
        def jobs(request: Request) -> Reply:
            return Reply.json({"jobs": []}) if server.allowed(request) else Reply.problem(401, "unauthorised")

        server.routes["GET", "/v1/jobs"] = jobs
        client.jobs()
        client.jobs()
        assert server.count("POST", "/v1/auth/token") == 1
        server.tokens = {"somebody else's"}
        client.jobs()
        assert server.count("POST", "/v1/auth/token") == 2

    def test_token_that_is_never_good(self, server: FakeCoordinator, client: RexisClient) -> None:
        server.on("GET", "/v1/jobs", Reply.problem(401, "unauthorised"))
        with pytest.raises(errors.AuthError):
            client.jobs()
        assert server.count("GET", "/v1/jobs") == 2

    def test_does_not_sign_for_another_host(self, server: FakeCoordinator, client: RexisClient) -> None:
        server.authority = "bank.example.org"
        with pytest.raises(errors.MalformedError, match="another host"):
            client.login()
        assert server.count("POST", "/v1/auth/token") == 0

    def test_without_wallet(self, server: FakeCoordinator) -> None:
        server.on("GET", "/v1/jobs", Reply.problem(401, "unauthorised"))
        with RexisClient(server.url) as client, pytest.raises(errors.AuthError):
            client.jobs()

    def test_another_deployment_than_trusted(self, server: FakeCoordinator, account: LocalAccount) -> None:
        trusted = Domain(chain_id=1, verifying_contract=ZERO_ADDRESS)
        with RexisClient(server.url, account, domain=trusted) as client, pytest.raises(errors.ConflictError):
            client.info()


class TestUpload:
    @pytest.mark.parametrize("as_file", [True, False])
    def test_sends_what_is_missing(
        self, server: FakeCoordinator, client: RexisClient, tmp_path: Path, as_file: bool
    ) -> None:
        digest, seen = sha256(CONTENT), []
        server.on("HEAD", f"/v1/blobs/{digest}", Reply(404))
        server.on(
            "PUT",
            f"/v1/blobs/{digest}",
            Reply.problem(503, "unavailable", retryable=True),
            Reply.json({"digest": str(digest), "size": len(CONTENT)}),
        )
        (tmp_path / "blob").write_bytes(CONTENT)
        source = tmp_path / "blob" if as_file else CONTENT
        assert client.upload_blob(source, progress=lambda done, total: seen.append((done, total))) == digest
        assert server.requests[-1].body == CONTENT
        assert seen[-1] == (len(CONTENT), len(CONTENT))

    def test_sends_nothing_twice(self, server: FakeCoordinator, client: RexisClient) -> None:
        server.on("HEAD", f"/v1/blobs/{sha256(CONTENT)}", Reply(200))
        client.upload_blob(CONTENT)
        assert server.count("PUT", f"/v1/blobs/{sha256(CONTENT)}") == 0

    def test_server_that_stored_something_else(self, server: FakeCoordinator, client: RexisClient) -> None:
        digest = sha256(CONTENT)
        server.on("HEAD", f"/v1/blobs/{digest}", Reply(404))
        server.on("PUT", f"/v1/blobs/{digest}", Reply.json({"digest": str(sha256(b"")), "size": 0}))
        with pytest.raises(errors.DigestMismatchError):
            client.upload_blob(CONTENT)

    def test_too_large_is_refused_before_sending(self, server: FakeCoordinator, client: RexisClient) -> None:
        with pytest.raises(errors.ResourceError):
            client.upload_blob(bytes((1 << 20) + 1))
        assert [request.method for request in server.requests] == ["GET"]


class TestDownload:
    def test_whole(self, server: FakeCoordinator, client: RexisClient, tmp_path: Path) -> None:
        digest, seen = server.serve_blob(CONTENT, cuts=[]), []
        path = client.download_blob(digest, tmp_path / "x", progress=lambda done, total: seen.append((done, total)))
        assert path.read_bytes() == CONTENT
        assert seen[-1] == (len(CONTENT), len(CONTENT))
        assert list(tmp_path.iterdir()) == [path]

    def test_resumes_as_long_as_bytes_come(self, server: FakeCoordinator, client: RexisClient, tmp_path: Path) -> None:
        # More cuts than the retries that a stuck download gets.
        digest = server.serve_blob(CONTENT, cuts=[10_000] * 6)
        assert client.download_blob(digest, tmp_path / "x").read_bytes() == CONTENT
        ranges = [request.headers.get("range") for request in server.requests if "blobs" in request.path]
        assert ranges == [None, *(f"bytes={cut}-" for cut in range(10_000, 70_000, 10_000))]

    def test_gives_up_without_bytes_and_keeps_the_part(
        self, server: FakeCoordinator, client: RexisClient, tmp_path: Path
    ) -> None:
        digest = server.serve_blob(CONTENT, cuts=[100, 0, 0, 0])
        with pytest.raises(errors.UnavailableError):
            client.download_blob(digest, tmp_path / "x")
        assert (tmp_path / "x.part").read_bytes() == CONTENT[:100]
        assert not (tmp_path / "x").exists()
        assert client.download_blob(digest, tmp_path / "x").read_bytes() == CONTENT

    def test_a_foreign_part_is_thrown_away(self, server: FakeCoordinator, client: RexisClient, tmp_path: Path) -> None:
        digest = server.serve_blob(CONTENT, cuts=[])
        (tmp_path / "x.part").write_bytes(b"something else")
        assert client.download_blob(digest, tmp_path / "x").read_bytes() == CONTENT

    @pytest.mark.parametrize("more", [b"", b"tail"])
    def test_a_part_that_is_already_whole_or_longer(
        self, server: FakeCoordinator, client: RexisClient, tmp_path: Path, more: bytes
    ) -> None:
        digest = server.serve_blob(CONTENT, cuts=[])
        (tmp_path / "x.part").write_bytes(CONTENT + more)
        assert client.download_blob(digest, tmp_path / "x").read_bytes() == CONTENT

    def test_lying_server(self, server: FakeCoordinator, client: RexisClient, tmp_path: Path) -> None:
        digest = sha256(CONTENT)
        server.on("GET", f"/v1/blobs/{digest}", Reply(200, CONTENT[:-1] + b"x"))
        with pytest.raises(errors.DigestMismatchError):
            client.download_blob(digest, tmp_path / "x")
        assert list(tmp_path.iterdir()) == []

    def test_over_the_limit(self, server: FakeCoordinator, client: RexisClient, tmp_path: Path) -> None:
        digest = server.serve_blob(CONTENT, cuts=[])
        with pytest.raises(errors.ResourceError):
            client.download_blob(digest, tmp_path / "x", max_bytes=len(CONTENT) - 1)
        assert not (tmp_path / "x").exists()

    def test_what_is_there_is_not_fetched(self, client: RexisClient, server: FakeCoordinator, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(CONTENT)
        client.download_blob(sha256(CONTENT), tmp_path / "x")
        assert server.requests == []


def policy(tier: Tier, **more: object) -> Policy:
    document = {
        "tier": tier,
        "sampleSize": 1 if tier == Tier.SAMPLED else 0,
        "shardSize": 2,
        "maxAttempts": 1,
        "absToleranceE9": 0,
        "relToleranceE9": 0,
        "rung": Rung.EE_OUTSOURCED,
        "validators": 0,
        "certifyOnChain": False,
    }
    return Policy.from_object(document | more)


CIRCUIT = Circuit(
    vk_digest=Digest(b"\x01" * 32),
    vka_digest=Digest(b"\x02" * 32),
    srs_digest=Digest(b"\x03" * 32),
    settings_digest=Digest(b"\x04" * 32),
    visibility=Visibility.PUBLIC,
    input_scale=7,
    output_scale=14,
    input_length=3,
    output_length=2,
)
RECORDS = Dataset(np.arange(15, dtype=np.float32).reshape(5, 3), np.arange(160, dtype=np.uint8).reshape(5, 32))


class TestJobs:
    def model(self, circuit: Circuit = CIRCUIT) -> ModelView:
        return ModelView(model_digest=sha256(b"model"), key_epoch=3, owner=COORDINATOR, circuit=circuit, vka=[])

    @pytest.mark.parametrize("tier", list(Tier))
    def test_request_rebuilds_the_root(self, server: FakeCoordinator, client: RexisClient, tier: Tier) -> None:
        request = job_request(
            client.info(), self.model(), RECORDS, RECORDS.digest, policy(tier), requester=client.address, record_start=1
        )
        circuit = NO_CIRCUIT if tier == Tier.COMMIT else CIRCUIT
        assert request.circuit == circuit
        assert request.input_root == input_root(tier, circuit, RECORDS.records, RECORDS.salts)
        assert (request.record_start, request.record_count, request.input_size) == (1, 4, 5)
        assert request.coordinator == COORDINATOR

    def test_request_that_cannot_be(self, server: FakeCoordinator, client: RexisClient) -> None:
        info: Info = client.info()
        wide = Dataset(np.ones((1, 4), np.float32), np.zeros((1, 32), np.uint8))
        with pytest.raises(errors.MalformedError, match="without a circuit"):
            job_request(info, self.model(NO_CIRCUIT), RECORDS, RECORDS.digest, policy(Tier.ZK), requester=COORDINATOR)
        with pytest.raises(errors.TensorError, match="4 values"):
            job_request(info, self.model(), wide, wide.digest, policy(Tier.ZK), requester=COORDINATOR)
        for start, count in ((5, None), (4, 2), (0, 0)):
            with pytest.raises(errors.MalformedError, match="not in a dataset"):
                job_request(
                    info,
                    self.model(),
                    RECORDS,
                    RECORDS.digest,
                    policy(Tier.COMMIT),
                    requester=COORDINATOR,
                    record_start=start,
                    record_count=count,
                )

    def test_submit_signs_and_compares(self, server: FakeCoordinator, client: RexisClient) -> None:
        info = client.info()
        request = job_request(
            info, self.model(), RECORDS, RECORDS.digest, policy(Tier.COMMIT), requester=client.address
        )
        job_id = request.job_id(info.domain)
        answer = {
            "jobId": str(job_id),
            "state": "queued",
            "submittedAt": "2026-11-01T00:00:00Z",
            "request": request.to_object(),
            "tasks": [],
            "reason": None,
            "certificateDigest": None,
        }
        server.on("POST", "/v1/jobs", Reply.json(answer), Reply.json(answer | {"jobId": str(sha256(b"other"))}))
        assert client.submit_job(request).job_id == job_id
        sent = server.requests[-1].body.decode()
        signature = sent.split('"signature":"0x')[1].split('"')[0]
        assert recover(job_id, bytes.fromhex(signature)) == client.address
        with pytest.raises(errors.ConflictError):
            client.submit_job(request)

    def test_wait_survives_a_restart(self, server: FakeCoordinator, client: RexisClient) -> None:
        info = client.info()
        request = job_request(
            info, self.model(), RECORDS, RECORDS.digest, policy(Tier.COMMIT), requester=client.address
        )
        job_id = request.job_id(info.domain)
        view = {
            "jobId": str(job_id),
            "state": "running",
            "submittedAt": "2026-11-01T00:00:00Z",
            "request": request.to_object(),
            "tasks": [],
            "reason": None,
            "certificateDigest": None,
        }
        away = [Reply(502, b"away")] * 4  # more than the retries of one call
        server.on("GET", f"/v1/jobs/{job_id}", Reply.json(view), *away, Reply.json(view | {"state": "certified"}))
        seen: list[str] = []
        done = client.wait_for_job(job_id, lambda job: seen.append(job.state.value), poll_seconds=0.0)
        assert done.state.value == "certified"
        assert seen == ["running", "certified"]

    def test_wait_has_an_end(self, server: FakeCoordinator, client: RexisClient) -> None:
        server.on("GET", f"/v1/jobs/{sha256(b'job')}", Reply(502, b"away"))
        with pytest.raises(errors.UnavailableError):
            client.wait_for_job(sha256(b"job"), poll_seconds=0.0, patience_seconds=0.0)
