"""What is refused when a job is submitted, with the field and a hint; and what registration checks."""

from __future__ import annotations

import pytest
from eth_account.signers.local import LocalAccount

from rexis.api import JobState, ModelRegistration
from rexis.protocol.certificate import MAX_TASKS, Certificate
from rexis.protocol.circuit import NO_CIRCUIT, Circuit, Visibility
from rexis.protocol.digests import ZERO_DIGEST, sha256
from rexis.protocol.errors import (
    ConflictError,
    EvidenceError,
    ForbiddenError,
    MalformedError,
    NotFoundError,
    ResourceError,
    SignatureError,
    TensorError,
    UnavailableError,
)
from rexis.protocol.parsing import Address
from rexis.protocol.policy import Rung, Tier
from rexis.protocol.rung import PRIVATE_WEIGHTS_DISTANCE_E9, RungClaim, SignedRungClaim, sign_rung_claim
from rexis.protocol.signing import address_of, new_account
from rexis.protocol.statement import Kind
from tests.unit.coordinator.fakes import MODEL, MODEL_DIGEST, FakeLedger, make_policy
from tests.unit.coordinator.scene import Scene

OTHER = sha256(b"other")
CIRCUIT = Circuit(
    vk_digest=OTHER,
    vka_digest=OTHER,
    srs_digest=OTHER,
    settings_digest=OTHER,
    visibility=Visibility.PUBLIC,
    input_scale=7,
    output_scale=7,
    input_length=4,
    output_length=2,
)


@pytest.mark.each_database
def test_the_same_request_is_the_same_job(scene: Scene) -> None:
    scene.publish()
    submission = scene.sign(scene.request())
    caller = address_of(scene.requester)
    first, created = scene.coordinator.jobs.submit(caller, submission)
    again, created_again = scene.coordinator.jobs.submit(caller, submission)
    assert (created, created_again) == (True, False)
    assert first == again
    assert first.state == JobState.QUEUED
    assert len(scene.coordinator.views.jobs(caller)) == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"coordinator": Address("0x" + "0" * 40)}, "request.coordinator"),
        ({"kind": Kind.TRAINING}, "request.kind"),
        ({"model_digest": OTHER}, "request.modelDigest"),
        ({"key_epoch": 2}, "request.modelDigest"),
        ({"dataset_digest": OTHER}, "request.datasetDigest"),
        ({"input_size": 6}, "request.inputSize"),
        ({"input_root": OTHER}, "request.inputRoot"),
        ({"policy": make_policy(tier=Tier.SAMPLED), "circuit": CIRCUIT}, "request.circuit"),
    ],
)
def test_what_does_not_fit_is_named(scene: Scene, changes: dict[str, object], field: str) -> None:
    scene.publish()
    with pytest.raises(MalformedError) as refused:
        scene.submit(**changes)
    assert refused.value.field == field
    assert scene.coordinator.views.jobs(address_of(scene.requester)) == []


def test_a_job_must_be_the_callers_and_signed(scene: Scene) -> None:
    scene.publish()
    with pytest.raises(SignatureError):
        scene.coordinator.jobs.submit(address_of(scene.requester), scene.sign(scene.request(), new_account()))
    with pytest.raises(ForbiddenError) as refused:
        scene.coordinator.jobs.submit(address_of(new_account()), scene.sign(scene.request()))
    assert refused.value.field == "request.requester"


def test_tiers_that_cannot_be_checked_are_refused(scene: Scene) -> None:
    scene.publish()
    scene.coordinator.jobs._place = scene.coordinator.jobs._place.__class__(
        scene.coordinator.deployment.domain, scene.coordinator.address, [Tier.COMMIT]
    )
    with pytest.raises(MalformedError) as refused:
        scene.submit(policy=make_policy(tier=Tier.ZK, sample_size=0), circuit=CIRCUIT)
    assert refused.value.field == "request.policy.tier"
    assert "use commit" in str(refused.value.hint)


def claim(scene: Scene, signer: LocalAccount | None = None, **changes: object) -> SignedRungClaim:
    fields: dict[str, object] = {
        "rung": Rung.EE_PRIVATE_WEIGHTS, "model_digest": MODEL_DIGEST, "key_epoch": 1, "base_digest": OTHER,
        "distance_e9": 1_300_000_000, "threshold_e9": PRIVATE_WEIGHTS_DISTANCE_E9, "card_digest": OTHER,
        "owner": address_of(scene.owner),
    }  # fmt: skip
    made = RungClaim(**{**fields, **changes})  # type: ignore[arg-type]
    return sign_rung_claim(signer or scene.owner, made, scene.coordinator.deployment.domain)


def test_a_rung_that_nobody_claims_is_refused(scene: Scene) -> None:
    scene.publish()
    with pytest.raises(MalformedError, match="has not claimed rung ee-private-weights") as refused:
        scene.submit(policy=make_policy(rung=Rung.EE_PRIVATE_WEIGHTS))
    assert refused.value.field == "request.policy.rung"
    assert "use ee-outsourced" in str(refused.value.hint)


@pytest.mark.each_database
def test_the_certificate_carries_the_claim_that_stood_when_the_job_was_taken(scene: Scene) -> None:
    scene.publish()
    owner, catalogue = address_of(scene.owner), scene.coordinator.catalogue
    first, second = claim(scene), claim(scene, distance_e9=2_000_000_000)
    assert catalogue.register_model(owner, registration(rung_claim=first))[0].rung_claim == first
    job = scene.submit(policy=make_policy(rung=Rung.EE_PRIVATE_WEIGHTS))
    plain = scene.submit()
    catalogue.register_model(owner, registration(rung_claim=second))
    assert catalogue.register_model(owner, registration())[0].rung_claim == second  # none given takes none away
    scene.do_all()
    scene.coordinator.anchoring.run()
    scene.ledger.head += 2
    found = {}
    for view in (job, plain):
        scene.coordinator.certificates.issue(str(view.job_id))
        data = scene.coordinator.jobs.certificate(address_of(scene.requester), view.job_id)
        found[view.job_id] = Certificate.parse(data)
    assert found[job.job_id].rung_claim == first
    assert found[plain.job_id].rung_claim is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"distance_e9": 999_999_999}, "rungClaim.claim.distanceE9"),
        ({"model_digest": OTHER}, "rungClaim.claim.modelDigest"),
        ({"key_epoch": 2}, "rungClaim.claim.keyEpoch"),
    ],
)
def test_a_claim_that_does_not_hold_is_not_registered(scene: Scene, changes: dict[str, object], field: str) -> None:
    scene.publish()
    with pytest.raises(EvidenceError) as refused:
        scene.coordinator.catalogue.register_model(
            address_of(scene.owner), registration(rung_claim=claim(scene, **changes))
        )
    assert refused.value.field == field


def test_only_the_models_owner_claims_its_rung(scene: Scene) -> None:
    scene.publish()
    stranger, register = new_account(), scene.coordinator.catalogue.register_model
    for signed, error in (
        (claim(scene, stranger), SignatureError),
        (claim(scene, stranger, owner=address_of(stranger)), EvidenceError),
    ):
        with pytest.raises(error):
            register(address_of(scene.owner), registration(rung_claim=signed))


def test_a_model_that_was_revoked_since_is_refused(scene: Scene, ledger: FakeLedger) -> None:
    scene.publish()
    ledger.register_model(address_of(scene.owner), revoked_at=9)
    with pytest.raises(MalformedError, match="revoked in block 9"):
        scene.submit()


def test_the_chain_is_asked_at_every_submission(scene: Scene, ledger: FakeLedger) -> None:
    scene.publish()
    ledger.down = True
    with pytest.raises(UnavailableError):
        scene.submit()


def test_too_many_tasks(scene: Scene) -> None:
    scene.publish()
    with pytest.raises(ResourceError) as refused:
        scene.submit(policy=make_policy(shard_size=1), input_size=MAX_TASKS + 1, record_count=MAX_TASKS + 1)
    assert refused.value.field == "request.policy.shardSize"


@pytest.mark.each_database
def test_jobs_are_private(scene: Scene) -> None:
    scene.publish()
    job, stranger = scene.submit(), address_of(new_account())
    jobs = scene.coordinator.jobs
    for look in (scene.coordinator.views.job, jobs.certificate, jobs.outputs):
        with pytest.raises(ForbiddenError):
            look(stranger, job.job_id)
        with pytest.raises(NotFoundError):
            look(stranger, OTHER)
    with pytest.raises(ForbiddenError):
        scene.coordinator.views.task(stranger, job.tasks[0].task_id)
    with pytest.raises(ConflictError, match="queued"):
        jobs.certificate(address_of(scene.requester), job.job_id)
    with pytest.raises(ConflictError, match="queued"):
        jobs.outputs(address_of(scene.requester), job.job_id)


@pytest.mark.each_database
def test_a_worker_may_look_at_its_task(scene: Scene) -> None:
    scene.publish()
    job = scene.submit()
    worker = scene.worker()
    scene.lease(worker)
    assert scene.coordinator.views.task(worker.address, job.tasks[0].task_id).worker == worker.address


def registration(**changes: object) -> ModelRegistration:
    fields: dict[str, object] = {"model_digest": MODEL_DIGEST, "key_epoch": 1, "circuit": NO_CIRCUIT, "vka": []}
    return ModelRegistration(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "field", "error"),
    [
        ({"model_digest": OTHER}, "modelDigest", MalformedError),
        ({"key_epoch": 9}, "modelDigest", MalformedError),
        ({"vka": [ZERO_DIGEST]}, "vka", MalformedError),
        ({"circuit": CIRCUIT}, "circuit", MalformedError),
    ],
)
def test_a_model_that_does_not_fit(scene: Scene, changes: dict[str, object], field: str, error: type) -> None:
    scene.publish()
    with pytest.raises(error) as refused:
        scene.coordinator.catalogue.register_model(address_of(scene.owner), registration(**changes))
    assert refused.value.field == field


def test_only_the_owner_on_chain_registers_a_model(scene: Scene) -> None:
    scene.publish()
    with pytest.raises(ForbiddenError):
        scene.coordinator.catalogue.register_model(address_of(new_account()), registration())
    _, created = scene.coordinator.catalogue.register_model(address_of(scene.owner), registration())
    assert not created


def test_a_new_owner_registers_the_model_and_claims_for_nobody(scene: Scene, ledger: FakeLedger) -> None:
    """The claim stays that of who registered the key epoch, whoever hands it in."""
    scene.publish()
    heir, register = new_account(), scene.coordinator.catalogue.register_model
    ledger.owners[MODEL_DIGEST] = address_of(heir)
    with pytest.raises(ForbiddenError, match=address_of(heir)):
        register(address_of(scene.owner), registration())
    scene.upload(heir, MODEL)
    with pytest.raises(EvidenceError, match="registered the model"):
        register(address_of(heir), registration(rung_claim=claim(scene, heir, owner=address_of(heir))))
    view, _ = register(address_of(heir), registration(rung_claim=claim(scene)))
    assert (view.owner, view.rung_claim) == (address_of(scene.owner), claim(scene))


def test_a_strangers_artefacts_are_not_checked(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checking a VKA takes a child process with gigabytes; 45 strangers at once took the machine."""
    scene.publish()
    monkeypatch.setattr(scene.coordinator.catalogue, "_check_circuit", None)
    for caller, changes in ((new_account(), {}), (scene.owner, {"circuit": CIRCUIT}), (scene.owner, {"key_epoch": 7})):
        with pytest.raises((ForbiddenError, MalformedError)):
            scene.coordinator.catalogue.register_model(address_of(caller), registration(**changes))


def test_another_circuit_than_the_chains(scene: Scene, ledger: FakeLedger) -> None:
    scene.publish()
    key = (MODEL_DIGEST, 1)
    found = ledger.models[key]
    ledger.models[key] = found.__class__(
        found.registrant, OTHER, found.vka_digest, found.srs_digest, found.registered_at, None
    )
    with pytest.raises(MalformedError, match="another circuit"):
        scene.coordinator.catalogue.register_model(address_of(scene.owner), registration())


def test_a_dataset_must_be_one(scene: Scene) -> None:
    register = scene.coordinator.catalogue.register_dataset
    caller = address_of(scene.requester)
    with pytest.raises(MalformedError, match="has not been uploaded"):
        register(caller, OTHER)
    with pytest.raises(TensorError):
        register(caller, scene.upload(scene.requester, b"no safetensors"))
