"""Submission of training jobs: a plan is taken only if it can be carried out, and checked, on what it names."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from coordinator.blobs import Blobs
from coordinator.catalogue import Catalogue
from coordinator.tables import TrainingRow
from rexis.ee.exactness import require_exact_plan
from rexis.protocol.digests import Digest
from rexis.protocol.errors import MalformedError, ResourceError
from rexis.protocol.parsing import enum_name
from rexis.protocol.policy import Tier
from rexis.protocol.rows import values_of_a_row
from rexis.protocol.tensors import Dataset
from rexis.protocol.training import TrainingPlan, TrainingRequest
from rexis.protocol.transcript import MAX_STATE_HEADER, initial_state, state_root_of
from rexis.training.exporting import initial_weights

# A transcript must fit into a lease and into evidence: a loss is 8 hexadecimal digits.
_MAX_STEPS = 1 << 20
_MAX_MODEL_BYTES = (2 << 30) - 1


@dataclass(frozen=True)
class Prepared:
    """A plan that can be carried out.

    Attributes
    ----------
    initial_root
        Root of the state before the first step.
    state_bytes
        Bytes of a state's tensors.
    """

    plan: TrainingPlan
    initial_root: Digest
    state_bytes: int

    def row(self, job_id: Digest) -> TrainingRow:
        """What is stored of it."""
        return TrainingRow(
            job_id=str(job_id),
            plan=self.plan.to_json().decode(),
            steps=self.plan.steps,
            initial_root=str(self.initial_root),
            state_bytes=self.state_bytes,
        )


class Trainings:
    """Checks trainings before they are taken."""

    def __init__(self, blobs: Blobs, catalogue: Catalogue) -> None:
        self._blobs, self._catalogue = blobs, catalogue

    def prepare(self, request: TrainingRequest, plan: TrainingPlan | None) -> Prepared:
        """Refuse a plan that cannot be carried out. Model and dataset are known here, and the request's.

        Raises
        ------
        MalformedError, EncryptionError, ResourceError
            Names the field at fault, and what to do.
        """
        if plan is None:
            raise MalformedError("a training needs its plan", field="plan", hint="send it beside the request")
        if plan.digest != request.plan_digest:
            raise MalformedError(
                f"the plan has digest {plan.digest}, the request says {request.plan_digest}", field="plan"
            )
        if request.policy.tier not in (able := trainable_tiers()):
            raise MalformedError(
                f"this coordinator cannot check trainings of tier {enum_name(request.policy.tier)}",
                field="request.policy.tier",
                hint=f"use {', '.join(map(enum_name, able))}, or a coordinator with torch and onnx installed",
            )
        require_exact_plan(plan)
        if plan.steps > _MAX_STEPS:
            raise ResourceError(f"{plan.steps} steps, at most {_MAX_STEPS} are served", field="plan.steps")
        if plan.batch_size > request.input_size:
            raise MalformedError(
                f"a batch of {plan.batch_size} of {request.input_size} records", field="plan.batchSize"
            )
        self._check_records(request, plan)
        return self._state(request.model_digest, plan)

    def _check_records(self, request: TrainingRequest, plan: TrainingPlan) -> None:
        dataset = self._catalogue.dataset(request.dataset_digest)
        if not isinstance(dataset, Dataset):
            raise MalformedError("the dataset holds hashes of records", field="request.datasetDigest")
        length = values_of_a_row(dataset.records)
        if length != plan.row_length:
            raise MalformedError(
                f"a record has {length} values, the plan says {plan.row_length}: input and target",
                field="plan.inputShape",
                hint="a record is a flat row, the input and then the target",
            )

    def _state(self, model: Digest, plan: TrainingPlan) -> Prepared:
        data = self._blobs.read(model, "model", _MAX_MODEL_BYTES)
        state = initial_state(plan, initial_weights(data, plan.trainable))
        size = sum(value.nbytes for value in state.values())
        if size + MAX_STATE_HEADER > self._blobs.max_bytes:
            raise ResourceError(
                f"a state has {size} bytes, over the limit of {self._blobs.max_bytes} for a blob",
                field="plan.trainable",
                hint="train fewer tensors, or with an optimiser that remembers less",
            )
        return Prepared(plan, state_root_of(0, 0, state), size)


def trainable_tiers() -> list[Tier]:
    """Tiers whose trainings can be checked with what is installed here."""
    able = find_spec("torch") is not None and find_spec("onnx") is not None
    return [Tier.COMMIT, Tier.SAMPLED] if able else [Tier.COMMIT]
