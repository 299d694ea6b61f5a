"""Pieces: one holder at a time, open again when their time runs out, checked when they come in; the lead's turn."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from circuits.chain import ChainSettings
from circuits.settings import CircuitSettings, canonical
from contracts.onchain import Registration
from coordinator.app import create_app
from coordinator.services import Coordinator
from coordinator.tables import ModelRow
from rexis.api import (
    JobState,
    JobView,
    Lease,
    Piece,
    PieceOffer,
    PieceProofs,
    PieceState,
    PiecesView,
    Progress,
    Stage,
    TaskState,
    WorkerRegistration,
)
from rexis.protocol.circuit import Circuit, Visibility
from rexis.protocol.digests import ZERO_DIGEST, Digest, sha256
from rexis.protocol.errors import (
    ConflictError,
    EvidenceError,
    ForbiddenError,
    LeaseError,
    MalformedError,
    TensorError,
)
from rexis.protocol.policy import Tier
from rexis.protocol.records import Integers, input_root
from rexis.protocol.signing import address_of
from rexis.protocol.tensors import pack_values
from tests.unit.circuits.settings_document import document
from tests.unit.coordinator.fakes import (
    MODEL,
    MODEL_DIGEST,
    FakeClock,
    FakeLedger,
    FakeWorker,
    make_coordinator,
    make_policy,
)
from tests.unit.coordinator.scene import Scene

WIDTHS = (4, 3, 5, 2)
SEGMENTS = len(WIDTHS) - 1
RECORDS = 5
SCALE = 7


def segment_settings(inputs: int, outputs: int) -> CircuitSettings:
    found = document()
    found["model_instance_shapes"] = [[1, inputs], [1, outputs]]
    found["model_input_scales"], found["model_output_scales"] = [SCALE], [SCALE]
    return CircuitSettings.parse(canonical(found))


SETTINGS = ChainSettings.of((1, 2), [segment_settings(a, b) for a, b in itertools.pairwise(WIDTHS)]).data
VK, SRS = b"keys of three segments", b"an SRS"
CIRCUIT = Circuit(
    vk_digest=sha256(VK),
    vka_digest=sha256(b"vka"),
    srs_digest=sha256(SRS),
    settings_digest=sha256(SETTINGS),
    visibility=Visibility.PUBLIC,
    input_scale=SCALE,
    output_scale=SCALE,
    input_length=WIDTHS[0],
    output_length=WIDTHS[-1],
)


def make_values(seed: int = 0, records: int = RECORDS, widths: Sequence[int] = WIDTHS) -> bytes:
    rng = np.random.default_rng(seed)
    return pack_values([rng.integers(-9, 9, (records, width)) for width in widths])


VALUES = make_values()


def good(count: int = RECORDS) -> PieceProofs:
    return PieceProofs(proofs=[b"good"] * count)


def only_good(artefacts: Any, srs: Path, segment: int, proofs: Sequence[bytes], inputs: Integers, outputs: Integers):  # type: ignore[no-untyped-def]
    assert (inputs.shape, outputs.shape) == ((RECORDS, WIDTHS[segment]), (RECORDS, WIDTHS[segment + 1]))
    return [None if proof == b"good" else "it is bad" for proof in proofs]


@pytest.fixture
def coordinator(tmp_path: Path, database: str, ledger: FakeLedger, clock: FakeClock) -> Iterator[Coordinator]:
    made = make_coordinator(tmp_path, ledger, clock, database_url=database)
    yield made
    made.close()


class Pieced:
    """A scene with a job of one task in three segments, which a lead has leased."""

    def __init__(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("coordinator.pieces.artefacts_of", lambda material, circuit: None)
        monkeypatch.setattr("coordinator.pieces.reasons_against_segment", only_good)
        self.scene, self.pieces = scene, scene.coordinator.pieces
        owner, circuit_hash = address_of(scene.owner), Digest(CIRCUIT.hash_struct())
        scene.ledger.models[MODEL_DIGEST, 1] = Registration(owner, circuit_hash, ZERO_DIGEST, ZERO_DIGEST, 5, None)
        for blob in (MODEL, SETTINGS, VK, SRS):
            scene.upload(scene.owner, blob)
        with scene.coordinator._store.writing() as session:
            session.add(
                ModelRow(
                    model_digest=str(MODEL_DIGEST),
                    key_epoch=1,
                    owner=owner,
                    circuit=CIRCUIT.to_json().decode(),
                    vka=str(sha256(b"word")),
                )
            )
        scene.upload(scene.requester, scene.dataset.to_bytes())
        scene.coordinator.catalogue.register_dataset(address_of(scene.requester), scene.dataset.digest)
        self.job = self.submit()
        self.lead = scene.prove(self.worker(), Tier.ZK)
        self.lease: Lease = scene.lease(self.lead)

    def submit(self, tier: Tier = Tier.ZK, sample_size: int = 0, name: bytes = b"job") -> JobView:
        data = self.scene.dataset
        return self.scene.submit(
            circuit=CIRCUIT,
            input_root=input_root(tier, CIRCUIT, data.records, data.salts),
            policy=make_policy(tier=tier, sample_size=sample_size, shard_size=RECORDS),
            nonce=sha256(name),
        )

    def worker(self, memory_bytes: int = 1 << 40, datasets: Sequence[Digest] = ()) -> FakeWorker:
        worker = FakeWorker()
        self.scene.coordinator.workers.register(
            worker.address,
            WorkerRegistration(
                name="w",
                provider="CPU",
                tiers=[Tier.SAMPLED, Tier.ZK],
                memory_bytes=memory_bytes,
                datasets=list(datasets),
            ),
        )
        return worker

    def offer(self, values: bytes = VALUES, segments: int = SEGMENTS) -> None:
        self.scene.upload(self.lead.account, values)
        self.pieces.offer(self.lease.lease_id, self.lead.address, PieceOffer(segments=segments, values=sha256(values)))

    def turn(self, *finished: int) -> PiecesView:
        return self.pieces.turn(self.lease.lease_id, self.lead.address, finished)

    def grant(self, helper: FakeWorker) -> Piece:
        piece = self.pieces.grant(helper.address)
        assert piece is not None
        return piece

    def hand_in(self, piece: Piece, helper: FakeWorker, proofs: PieceProofs | None = None) -> None:
        """What the route does."""

        async def send() -> None:
            self.pieces.admit(piece.piece_id, helper.address)
            digest = await self.pieces.store(proofs or good())
            await self.pieces.check(piece.piece_id, helper.address, digest)

        asyncio.run(send())

    def may_read(self, worker: FakeWorker, digest: Digest) -> bool:
        return self.scene.coordinator.access.may_read(worker.address, digest)


@pytest.fixture
def pieced(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Pieced:
    return Pieced(scene, monkeypatch)


@pytest.mark.each_database
def test_pieces_are_offered_once_and_held_by_one_each(pieced: Pieced) -> None:
    helper = pieced.worker()
    assert pieced.pieces.grant(helper.address) is None
    pieced.offer()
    pieced.offer()  # an answer may be lost
    view = pieced.turn()
    assert view.yours == 0
    assert pieced.turn() == view  # so may this one
    piece = pieced.grant(helper)
    assert (piece.segment, piece.records, piece.values) == (1, RECORDS, sha256(VALUES))
    assert (piece.request, piece.vka) == (pieced.lease.request, [sha256(b"word")])
    assert pieced.grant(pieced.worker()).segment == 2
    assert pieced.pieces.grant(pieced.worker().address) is None
    assert pieced.pieces.grant(pieced.lead.address) is None
    assert pieced.turn(0).yours is None


@pytest.mark.each_database
def test_racing_helpers_never_get_the_same_piece(pieced: Pieced) -> None:
    pieced.offer()
    helpers = [pieced.worker() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda helper: pieced.pieces.grant(helper.address), helpers))
    assert sorted(piece.segment for piece in found if piece is not None) == [0, 1, 2]


@pytest.mark.each_database
def test_a_made_piece_is_the_leads_to_read(pieced: Pieced) -> None:
    pieced.offer()
    helper = pieced.worker()
    piece = pieced.grant(helper)
    pieced.hand_in(piece, helper)
    pieced.hand_in(piece, helper)  # the answer may be lost
    view = pieced.turn()
    made = view.pieces[0]
    assert (made.state, made.worker, made.proofs) == (PieceState.DONE, helper.address, sha256(good().to_json()))
    assert made.proofs is not None
    assert pieced.may_read(pieced.lead, made.proofs)
    assert not pieced.may_read(pieced.worker(), made.proofs)
    assert view.yours == 1


def test_a_helper_reads_what_its_piece_needs_while_it_holds_it(pieced: Pieced) -> None:
    pieced.offer()
    helper, request = pieced.worker(), pieced.lease.request
    needed = [MODEL_DIGEST, sha256(SETTINGS), sha256(VK), sha256(SRS), sha256(VALUES)]
    assert not any(pieced.may_read(helper, digest) for digest in needed)
    piece = pieced.grant(helper)
    assert all(pieced.may_read(helper, digest) for digest in needed)
    assert not pieced.may_read(helper, request.dataset_digest)
    pieced.hand_in(piece, helper)
    assert not any(pieced.may_read(helper, digest) for digest in needed)


@pytest.mark.each_database
def test_a_helper_that_vanishes_loses_its_piece(pieced: Pieced, clock: FakeClock) -> None:
    pieced.offer()
    helper = pieced.worker()
    piece = pieced.grant(helper)
    beat = Progress(stage=Stage.SETUP, done=0, total=RECORDS)
    keep_lead(pieced, clock, 59)
    pieced.pieces.heartbeat(piece.piece_id, helper.address, beat)
    keep_lead(pieced, clock, 59)
    pieced.pieces.heartbeat(piece.piece_id, helper.address, beat)
    keep_lead(pieced, clock, 60)
    with pytest.raises(LeaseError):
        pieced.pieces.heartbeat(piece.piece_id, helper.address, beat)
    with pytest.raises(LeaseError):
        pieced.hand_in(piece, helper)
    assert not pieced.may_read(helper, sha256(VALUES))
    assert pieced.grant(helper).segment == 1  # not the same again
    assert pieced.grant(pieced.worker()).segment == 0
    assert pieced.turn().pieces[0].reason == "its time ran out"
    assert pieced.scene.job(pieced.job).tasks[0].faults == []


def keep_lead(pieced: Pieced, clock: FakeClock, seconds: float) -> None:
    """Let time pass, with a sign of life of the lead."""
    clock.pass_seconds(seconds / 2)
    leases = pieced.scene.coordinator.leases
    leases.heartbeat(pieced.lease.lease_id, pieced.lead.address, Progress(stage=Stage.PROVE, done=0, total=15))
    clock.pass_seconds(seconds / 2)


def test_heartbeats_without_progress_do_not_keep_a_piece(pieced: Pieced, clock: FakeClock) -> None:
    pieced.offer()
    helper = pieced.worker()
    piece = pieced.grant(helper)
    lost = 0
    for turn in range(40):
        keep_lead(pieced, clock, 50)
        try:
            beat = Progress(stage=Stage.PROVE, done=RECORDS + turn % 3, total=1000)
            pieced.pieces.heartbeat(piece.piece_id, helper.address, beat)
        except LeaseError:
            lost = turn * 50
            break
    assert 1150 <= lost <= 1350


def test_the_progress_of_helpers_keeps_the_lease(pieced: Pieced, clock: FakeClock) -> None:
    """The lead waits, so that nothing but its helper gets anywhere: longer than a lease may stall."""
    pieced.offer()
    helper = pieced.worker()
    piece = pieced.grant(helper)
    for done in range(RECORDS):
        for _ in range(8):
            keep_lead(pieced, clock, 50)
            beat = Progress(stage=Stage.PROVE, done=done, total=RECORDS)
            pieced.pieces.heartbeat(piece.piece_id, helper.address, beat)
    pieced.hand_in(piece, helper)
    assert pieced.turn().yours == 1


def test_the_leads_progress_counts_in_proofs(pieced: Pieced, clock: FakeClock) -> None:
    """More proofs than records, one in 1000 seconds, each of which keeps the lease."""
    pieced.offer()
    leases = pieced.scene.coordinator.leases
    for done in range(RECORDS * SEGMENTS):
        for _ in range(20):
            clock.pass_seconds(50)
            progress = Progress(stage=Stage.PROVE, done=done, total=RECORDS * SEGMENTS)
            leases.heartbeat(pieced.lease.lease_id, pieced.lead.address, progress)
    assert pieced.turn().yours == 0


def test_the_keys_of_each_segment_are_progress(pieced: Pieced, clock: FakeClock) -> None:
    """The lead makes the keys of all segments, more than there are records, before it offers anything."""
    leases = pieced.scene.coordinator.leases
    for done in range(12):
        for _ in range(20):
            clock.pass_seconds(50)
            progress = Progress(stage=Stage.SETUP, done=done, total=12)
            leases.heartbeat(pieced.lease.lease_id, pieced.lead.address, progress)
    pieced.offer()
    assert pieced.turn().yours == 0


@pytest.mark.parametrize(
    ("proofs", "reason"),
    [
        (PieceProofs(proofs=[b"good"] * 4 + [b"bad"]), "segment 0: proof 4 does not hold: it is bad"),
        (good(4), "segment 0: 4 proofs for 5 records"),
        (good(6), "segment 0: 6 proofs for 5 records"),
    ],
)
def test_bad_proofs_are_their_makers_fault(pieced: Pieced, proofs: PieceProofs, reason: str) -> None:
    pieced.offer()
    liar = pieced.worker()
    piece = pieced.grant(liar)
    with pytest.raises(EvidenceError, match=reason):
        pieced.hand_in(piece, liar, proofs)
    (fault,) = pieced.scene.job(pieced.job).tasks[0].faults
    assert (fault.worker, fault.code, fault.detail) == (liar.address, EvidenceError.code, reason)
    assert pieced.pieces.grant(liar.address) is None  # of none of this task's segments
    with pytest.raises(LeaseError):
        pieced.hand_in(piece, liar)
    assert pieced.turn().yours == 0
    pieced.scene.coordinator.leases.give_back(pieced.lease.lease_id, pieced.lead.address)
    assert pieced.scene.coordinator.leases.grant(liar.address) is None  # nor the task


@pytest.mark.each_database
def test_faults_of_helpers_do_not_fail_a_job(pieced: Pieced) -> None:
    """Otherwise strangers could end any job at no cost: the lead goes on whatever they hand in."""
    leases = pieced.scene.coordinator.leases
    leases._rules = replace(leases._rules, max_faults=3)
    pieced.offer()
    for _ in range(20):
        liar = pieced.worker()
        piece = pieced.pieces.grant(liar.address)
        if piece is None:
            break
        with pytest.raises(EvidenceError):
            pieced.hand_in(piece, liar, PieceProofs(proofs=[b"bad"] * RECORDS))
    view = pieced.scene.job(pieced.job)
    assert view.tasks[0].fault_count == 3 * SEGMENTS  # then no helper gets them any more
    assert (view.state, view.tasks[0].state) == (JobState.RUNNING, TaskState.LEASED)
    assert [pieced.turn(*range(segment)).yours for segment in range(SEGMENTS)] == [0, 1, 2]
    leases.give_up(pieced.lease.lease_id, pieced.lead.address, "too-large", "no room")
    assert pieced.scene.job(pieced.job).state == JobState.RUNNING
    assert pieced.scene.lease(pieced.worker()).start == 0  # nor is this the task's last attempt


def test_a_piece_is_left_without_fault(pieced: Pieced) -> None:
    pieced.offer()
    helper = pieced.worker()
    piece = pieced.grant(helper)
    pieced.pieces.leave(piece.piece_id, helper.address, "too-large", "no room")
    pieced.pieces.leave(piece.piece_id, helper.address, "too-large", "no room")
    assert pieced.grant(helper).segment == 1
    assert pieced.grant(pieced.worker()).segment == 0
    assert pieced.turn().pieces[0].reason == "too-large: no room"
    assert pieced.scene.job(pieced.job).tasks[0].faults == []


@pytest.mark.each_database
def test_a_lead_that_made_a_piece_itself_frees_its_helper(pieced: Pieced) -> None:
    pieced.offer()
    helper = pieced.worker()
    piece = pieced.grant(helper)
    assert pieced.turn(0).pieces[0].state == PieceState.DONE
    with pytest.raises(LeaseError):
        pieced.pieces.heartbeat(piece.piece_id, helper.address, Progress(stage=Stage.PROVE, done=1, total=RECORDS))
    with pytest.raises(LeaseError):
        pieced.hand_in(piece, helper)


@pytest.mark.each_database
@pytest.mark.parametrize("how", ["back", "expired"])
def test_pieces_end_with_the_lease(pieced: Pieced, clock: FakeClock, how: str) -> None:
    pieced.offer()
    helper, leases = pieced.worker(), pieced.scene.coordinator.leases
    piece = pieced.grant(helper)
    if how == "back":
        leases.give_back(pieced.lease.lease_id, pieced.lead.address)
    else:
        clock.pass_seconds(50)
        pieced.pieces.heartbeat(piece.piece_id, helper.address, Progress(stage=Stage.PROVE, done=0, total=RECORDS))
        clock.pass_seconds(15)
    for use in (
        lambda: pieced.pieces.heartbeat(piece.piece_id, helper.address, Progress(stage=Stage.PROVE, done=1, total=5)),
        lambda: pieced.hand_in(piece, helper),
        lambda: pieced.turn(),
        lambda: pieced.offer(),
    ):
        with pytest.raises(LeaseError):
            use()
    assert pieced.pieces.grant(pieced.worker().address) is None
    assert not pieced.may_read(helper, sha256(VALUES))


@pytest.mark.each_database
def test_the_next_lead_finds_what_helpers_have_made(pieced: Pieced) -> None:
    pieced.offer()
    helper = pieced.worker()
    pieced.hand_in(pieced.grant(helper), helper)
    pieced.scene.coordinator.leases.give_back(pieced.lease.lease_id, pieced.lead.address)
    pieced.lead = pieced.worker()
    pieced.lease = pieced.scene.lease(pieced.lead)
    pieced.offer()
    view = pieced.turn()
    assert (view.yours, view.pieces[0].worker) == (1, helper.address)
    assert view.pieces[0].proofs is not None
    assert pieced.may_read(pieced.lead, view.pieces[0].proofs)

    pieced.scene.coordinator.leases.give_back(pieced.lease.lease_id, pieced.lead.address)
    pieced.lease = pieced.scene.lease(pieced.lead)
    pieced.offer(make_values(seed=1))  # of other values nothing is made
    assert pieced.turn().yours == 0


def test_what_helpers_made_of_another_task_is_not_this_ones(pieced: Pieced) -> None:
    """It may be of another circuit."""
    pieced.offer()
    helper = pieced.worker()
    pieced.hand_in(pieced.grant(helper), helper)
    pieced.submit(name=b"another job")
    pieced.lease = pieced.scene.lease(pieced.lead)
    pieced.offer()
    assert [piece.proofs for piece in pieced.turn().pieces] == [None] * SEGMENTS


@pytest.mark.parametrize(
    ("values", "segments", "error", "reason"),
    [
        (VALUES, 2, MalformedError, "has 3 segments, not 2"),
        (VALUES, 4, MalformedError, "has 3 segments, not 4"),
        (make_values(records=4), SEGMENTS, TensorError, r"int64 \[4, 4\], expected int64 \[5, 4\]"),
        (make_values(widths=(4, 3, 4, 2)), SEGMENTS, TensorError, "values.2|expected int64"),
        (make_values(widths=(4, 3, 2)), SEGMENTS, TensorError, "expected exactly"),
        (bytes(70_000), SEGMENTS, TensorError, "at most"),
        (b"no tensors", SEGMENTS, TensorError, "not safetensors"),
    ],
)
def test_offers_that_do_not_fit_are_refused(
    pieced: Pieced, values: bytes, segments: int, error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        pieced.offer(values, segments)
    assert pieced.pieces.grant(pieced.worker().address) is None


def test_an_offer_stands(pieced: Pieced) -> None:
    with pytest.raises(MalformedError, match="not been uploaded"):
        pieced.pieces.offer(
            pieced.lease.lease_id, pieced.lead.address, PieceOffer(segments=SEGMENTS, values=sha256(b"elsewhere"))
        )
    pieced.offer()
    with pytest.raises(ConflictError, match="other values"):
        pieced.offer(make_values(seed=1))


def test_a_sampled_tasks_pieces_are_of_the_sample(pieced: Pieced) -> None:
    pieced.submit(Tier.SAMPLED, 2, b"sampled")
    pieced.lease = pieced.scene.lease(pieced.lead)
    with pytest.raises(TensorError):
        pieced.offer()
    pieced.offer(make_values(records=2))
    assert pieced.grant(pieced.worker()).records == 2


def test_another_worker_cannot_use_a_piece(pieced: Pieced) -> None:
    pieced.offer()
    helper, thief = pieced.worker(), pieced.worker()
    piece, pieces = pieced.grant(helper), pieced.pieces
    for use in (
        lambda: pieces.heartbeat(piece.piece_id, thief.address, Progress(stage=Stage.PROVE, done=1, total=5)),
        lambda: pieces.leave(piece.piece_id, thief.address, "x", ""),
        lambda: pieced.hand_in(piece, thief),
        lambda: pieces.heartbeat("0" * 32, helper.address, Progress(stage=Stage.PROVE, done=1, total=5)),
        lambda: pieces.turn(pieced.lease.lease_id, thief.address, [0]),
        lambda: pieces.offer(
            pieced.lease.lease_id, thief.address, PieceOffer(segments=SEGMENTS, values=sha256(VALUES))
        ),
    ):
        with pytest.raises(LeaseError):
            use()


def test_who_gets_pieces(pieced: Pieced) -> None:
    pieced.offer()
    with pytest.raises(ForbiddenError):
        pieced.pieces.grant(FakeWorker().address)
    assert pieced.pieces.grant(pieced.lead.address) is None
    assert pieced.pieces.grant(pieced.scene.worker(Tier.COMMIT).address) is None
    assert pieced.pieces.grant(pieced.worker(memory_bytes=1 << 20).address) is None
    assert pieced.pieces.grant(pieced.worker(datasets=[sha256(b"private")]).address) is None
    hoarder = pieced.worker()
    pieced.pieces._terms = replace(pieced.pieces._terms, at_a_time=2)
    assert [pieced.grant(hoarder).segment for _ in range(2)] == [0, 1]
    assert pieced.pieces.grant(hoarder.address) is None


def test_over_http(pieced: Pieced) -> None:
    """The whole way of a piece, as client and routes spell it."""
    http = TestClient(create_app(pieced.scene.coordinator), base_url="http://127.0.0.1:8080")
    lead, helper = pieced.scene.headers(pieced.lead.account), pieced.worker()
    helping = pieced.scene.headers(helper.account)
    lease = f"/v1/leases/{pieced.lease.lease_id}"

    def post(path: str, content: bytes, headers: dict[str, str], status: int) -> bytes:
        answer = http.post(path, content=content, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.content

    assert http.put(f"/v1/blobs/{sha256(VALUES)}", content=VALUES, headers=lead).status_code == 201
    post("/v1/pieces", b'{"waitSeconds":0}', helping, 204)
    offer = PieceOffer(segments=SEGMENTS, values=sha256(VALUES)).to_json()
    post(f"{lease}/pieces", offer, helping, 409)
    post(f"{lease}/pieces", offer, lead, 204)
    piece = Piece.from_json(post("/v1/pieces", b'{"waitSeconds":0}', helping, 200))
    assert http.get(f"/v1/blobs/{piece.values}", headers=helping).content == VALUES
    beat = b'{"progress":{"done":1,"stage":"prove","total":5}}'
    post(f"/v1/pieces/{piece.piece_id}/heartbeat", beat, helping, 200)
    post(f"/v1/pieces/{piece.piece_id}/proofs", good().to_json(), lead, 409)
    huge = PieceProofs(proofs=[bytes(12 << 20)]).to_json()
    post(f"/v1/pieces/{piece.piece_id}/proofs", huge, helping, 413)
    post(f"/v1/pieces/{piece.piece_id}/proofs", good().to_json(), helping, 204)
    view = PiecesView.from_json(post(f"{lease}/pieces/turn", b'{"finished":[]}', lead, 200))
    assert (view.yours, view.pieces[0].state) == (1, PieceState.DONE)
    proofs = http.get(f"/v1/blobs/{view.pieces[0].proofs}", headers=lead).content
    assert PieceProofs.from_json(proofs) == good()
    other = Piece.from_json(post("/v1/pieces", b'{"waitSeconds":0}', helping, 200))
    post(f"/v1/pieces/{other.piece_id}/fail", b'{"code":"stopped","detail":""}', helping, 204)
    bad = Piece.from_json(post("/v1/pieces", b'{"waitSeconds":0}', pieced.scene.headers(pieced.worker().account), 200))
    assert bad.segment == other.segment
