"""Steps that are not those of the plan. All around them is in order, so only taking them again can show it."""

from __future__ import annotations

import numpy as np

from rexis.protocol.digests import sha256
from rexis.protocol.policy import Tier
from rexis.protocol.training import Optimiser
from rexis.protocol.training_certificate import TrainingCertificate
from rexis.protocol.training_kinds import OptimiserKind
from rexis.protocol.transcript import State, challenged_segments
from rexis.training.session import Losses, Trainer
from tests.vectors.certificates.issuer import Document
from tests.vectors.training.case import forged
from tests.vectors.training.issuer import PLAN, SEGMENTS, TOLERANCE_E9, Cheat, TrainingIssuer, dataset, honest_steps

_NOT_COMMITTED = "ends"
_AGAIN = 26

OTHER_DATA = Cheat(data=dataset(14))


def _caught(issuer: TrainingIssuer, cheat: Cheat) -> Document:
    return issuer.issue(issuer.job(Tier.SAMPLED, sample=SEGMENTS), cheat)


def drawn(document: Document) -> list[int]:
    """The segments that a certificate's challenge asks for."""
    made = TrainingCertificate.from_object(document)
    assert made.commitment is not None
    statement, sample = made.domain.digest(made.evidence.statement), made.request.policy.sample_size
    return challenged_segments(made.plan, statement, made.commitment.challenge_block_hash, sample)


def drifting(segment: int | None, part: float) -> Cheat:
    """Moves the weights at the end of a segment, or of each, by a part of the way that they went in it."""

    def take(trainer: Trainer, here: int) -> Losses:
        before = trainer.state()
        losses = honest_steps(trainer, here)
        if segment in (None, here):
            trainer.load(trainer.step_count, _moved(before, trainer.state(), part))
        return losses

    return Cheat(take=take)


def _moved(before: State, after: State, part: float) -> State:
    rng = np.random.default_rng(1)
    weights = [name for name in after if name.startswith("weight/")]
    way = np.sqrt(sum(float(((after[name] - before[name]) ** 2).sum()) for name in weights))
    noise = {name: rng.standard_normal(after[name].shape) for name in weights}
    length = np.sqrt(sum(float((value**2).sum()) for value in noise.values()))
    return {**after, **{name: (after[name] + noise[name] * way * part / length).astype(np.float32) for name in weights}}


def _by_another_plan(**changes: object) -> Cheat:
    return Cheat(plan=PLAN.model_copy(update=changes))


def _by_another_optimiser(**changes: int) -> Cheat:
    return _by_another_plan(optimiser=PLAN.optimiser.model_copy(update=changes))


@forged(_AGAIN, _NOT_COMMITTED, "coordinator", "worker")
def other_data(issuer: TrainingIssuer) -> Document:
    """The worker trained on records that are not in the committed dataset."""
    return _caught(issuer, OTHER_DATA)


@forged(_AGAIN, _NOT_COMMITTED, "coordinator", "worker")
def step_skipped(issuer: TrainingIssuer) -> Document:
    """The last step of a segment was not taken; its loss was made up of the one before."""

    def take(trainer: Trainer, segment: int) -> Losses:
        if segment != 1:
            return honest_steps(trainer, segment)
        losses = trainer.advance(2)
        trainer.load(trainer.step_count + 1, trainer.state())
        return np.append(losses, losses[-1])

    return _caught(issuer, Cheat(take=take))


@forged(_AGAIN, _NOT_COMMITTED, "coordinator", "worker")
def step_repeated(issuer: TrainingIssuer) -> Document:
    """The first step of a segment was taken twice, in the place of the last one."""

    def take(trainer: Trainer, segment: int) -> Losses:
        if segment != 1:
            return honest_steps(trainer, segment)
        first = trainer.advance(1)
        trainer.load(trainer.step_count - 1, trainer.state())
        losses = np.concatenate([first, trainer.advance(2)])
        trainer.load(trainer.step_count + 1, trainer.state())
        return losses

    return _caught(issuer, Cheat(take=take))


@forged(_AGAIN, _NOT_COMMITTED, "coordinator", "worker")
def nothing_trained(issuer: TrainingIssuer) -> Document:
    """No step was taken at all: every state is the first one, with losses that go down."""

    def take(trainer: Trainer, segment: int) -> Losses:
        first = trainer.plan.step_of(segment)
        trainer.load(trainer.plan.step_of(segment + 1), trainer.state())
        return np.linspace(1 - first / 20, 1 - (first + 2) / 20, 3, dtype=np.float32)

    return _caught(issuer, Cheat(take=take))


@forged(_AGAIN, _NOT_COMMITTED, "coordinator", "worker")
def optimiser_swapped(issuer: TrainingIssuer) -> Document:
    """Plain gradient descent, which needs no memory; Adam's moments are left at zero."""

    def take(trainer: Trainer, segment: int) -> Losses:
        plain = Optimiser(kind=OptimiserKind.SGD, learning_rate_e9=PLAN.optimiser.learning_rate_e9)
        other = Trainer(trainer.model, PLAN.model_copy(update={"optimiser": plain}), issuer.data.records)
        state = trainer.state()
        other.load(PLAN.step_of(segment), {name: state[name] for name in other.state()})
        losses = honest_steps(other, segment)
        trainer.load(PLAN.step_of(segment + 1), {**state, **other.state()})
        return losses

    return _caught(issuer, Cheat(take=take))


@forged(_AGAIN, _NOT_COMMITTED, "coordinator", "worker")
def weight_decay_added(issuer: TrainingIssuer) -> Document:
    """Adam with a weight decay that the plan does not have."""
    return _caught(issuer, _by_another_optimiser(weight_decay_e9=100_000_000))


@forged(_AGAIN, _NOT_COMMITTED, "coordinator", "worker")
def learning_rate_lower(issuer: TrainingIssuer) -> Document:
    """A learning rate one hundredth lower than the plan's."""
    return _caught(issuer, _by_another_optimiser(learning_rate_e9=9_900_000))


@forged(_AGAIN, _NOT_COMMITTED, "coordinator", "worker")
def not_warmed_up(issuer: TrainingIssuer) -> Document:
    """The plan's learning rate, without its warming up."""
    schedule = PLAN.schedule.model_copy(update={"warmup_steps": 0})
    return _caught(issuer, _by_another_plan(schedule=schedule))


@forged(_AGAIN, _NOT_COMMITTED, "coordinator", "worker")
def other_order(issuer: TrainingIssuer) -> Document:
    """The records of the dataset, in the order of another seed."""
    return _caught(issuer, _by_another_plan(order_seed=sha256(b"another order")))


@forged(_AGAIN, _NOT_COMMITTED, "coordinator", "worker")
def smaller_batches(issuer: TrainingIssuer) -> Document:
    """Half as many records a step."""
    return _caught(issuer, _by_another_plan(batch_size=2))


@forged(_AGAIN, _NOT_COMMITTED, "coordinator", "worker")
def layer_not_trained(issuer: TrainingIssuer) -> Document:
    """The first layer stays as it was, which halves the work."""

    def take(trainer: Trainer, segment: int) -> Losses:
        before = trainer.state()
        losses = honest_steps(trainer, segment)
        after = trainer.state()
        frozen = {name: value for name, value in before.items() if name.endswith(("/w1", "/b1"))}
        trainer.load(trainer.step_count, {**after, **frozen})
        return losses

    return _caught(issuer, Cheat(take=take))


@forged(_AGAIN, _NOT_COMMITTED, "coordinator", "worker")
def state_that_does_not_chain(issuer: TrainingIssuer) -> Document:
    """A state from elsewhere in the middle, from which all went on honestly."""

    def state(index: int, honest: State) -> State:
        return {name: value + np.float32(0.01) for name, value in honest.items()} if index == 2 else honest

    return _caught(issuer, Cheat(state=state))


@forged(_AGAIN, "weight ends", "coordinator", "worker")
def drift_beyond_the_tolerance(issuer: TrainingIssuer) -> Document:
    """The worker moves the weights of one segment's end by a tenth more than the policy tolerates."""
    return _caught(issuer, drifting(2, 1.1 * TOLERANCE_E9 / 1e9))


@forged(_AGAIN, "segment 1", "coordinator", "worker")
def moments_forgotten(issuer: TrainingIssuer) -> Document:
    """The worker that took over began with moments of zero, as if nothing had been learned of the gradients."""

    def state(index: int, honest: State) -> State:
        forgotten = {name: np.zeros_like(value) for name, value in honest.items() if not name.startswith("weight/")}
        return {**honest, **forgotten} if index == 2 else honest

    workers = ("worker", "worker", "worker", "second worker", "second worker")
    return _caught(issuer, Cheat(state=state, workers=workers))


@forged(_AGAIN, "was signed", "coordinator", "worker")
def loss_flattered(issuer: TrainingIssuer) -> Document:
    """The steps are right, the signed losses are a tenth lower than they were."""
    return _caught(issuer, Cheat(losses=lambda index, honest: honest * np.float32(0.9)))


@forged(_AGAIN, _NOT_COMMITTED, "coordinator", "worker", reexecute=SEGMENTS)
def cheat_at_commit_taken_again(issuer: TrainingIssuer) -> Document:
    """Tier commit: the worker trained on other data, and an auditor takes segments again on its own account."""
    return issuer.issue(issuer.job(Tier.COMMIT), OTHER_DATA)


@forged(23, "zeros have", "coordinator", "worker")
def wrong_first_state(issuer: TrainingIssuer) -> Document:
    """The training began from other weights than the registered base model's."""

    def state(index: int, honest: State) -> State:
        return {**honest, "weight/b2": honest["weight/b2"] + np.float32(0.5)} if index == 0 else honest

    return _caught(issuer, Cheat(state=state))


@forged(23, "zeros have", "coordinator", "worker")
def moments_at_the_start(issuer: TrainingIssuer) -> Document:
    """The base model's weights, with moments that no step has made: they push the weights where the worker likes."""

    def state(index: int, honest: State) -> State:
        return {**honest, "exp_avg/w1": honest["exp_avg/w1"] + np.float32(1)} if index == 0 else honest

    return _caught(issuer, Cheat(state=state))
