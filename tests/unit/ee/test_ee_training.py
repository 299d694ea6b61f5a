"""Training in the clear and under EE, from the same start and in the same order, ends with the same weights."""

from __future__ import annotations

import copy
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rexis.ee.compiler import EncryptedModel, encrypt_model, encrypt_trainable
from rexis.ee.exactness import SIGNED, powers_of
from rexis.ee.groups import ISOMETRY, Power, draw
from rexis.ee.keyformat import read_key, write_key
from rexis.ee.keys import KeyPart
from rexis.ee.stream import SecretStream
from rexis.ee.training import RULES, EncryptedTraining, Loss, Step, exactness, load_tensors, steps_of, tensors_of
from rexis.ee.training.exporting import export
from rexis.protocol.errors import EncryptionError, KeyFileError, TensorError
from tests.unit.ee.dense_networks import run
from tests.unit.ee.torch_networks import exported, mlp
from tests.unit.ee.training_networks import CASES, OPTIMISERS, SEED, Optimiser, run_both
from tests.unit.ee.training_networks import compiled as compiled_fresh

ADAPTIVE = ("Adam", "AdamW, clipped", "RMSprop", "Adagrad")
# CI takes every optimiser on the small ones, and these on all; `make test-slow` takes all on all.
SMALL = ("mlp", "layer norm", "conv1d")
USUAL = ("SGD", "AdamW, clipped")
compiled = cache(lambda name, optimiser: compiled_fresh(CASES[name], OPTIMISERS[optimiser]))


@pytest.mark.parametrize(
    ("name", "optimiser"),
    [
        pytest.param(name, optimiser, marks=() if name in SMALL or optimiser in USUAL else pytest.mark.slow)
        for name in CASES
        for optimiser in OPTIMISERS
    ],
)
def test_decrypted_weights_and_losses_are_those_of_training_in_the_clear(name: str, optimiser: str) -> None:
    training = compiled(name, optimiser)
    frozen = training.idle if optimiser in ADAPTIVE else ()
    runs = run_both(CASES[name], training, OPTIMISERS[optimiser], frozen=frozen)
    assert runs.moved() > 0.03
    assert runs.error() < 1e-5
    assert runs.loss_error() < 1e-5
    assert runs.worst() < 1e-4  # what is promised, for each tensor by itself


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("name", ["layer norm", "transformer without gains", "residual CNN", "tokens"])
def test_it_is_exact_up_to_rounding(name: str, optimiser: str) -> None:
    runs = run_both(CASES[name], compiled(name, optimiser), OPTIMISERS[optimiser], dtype=torch.float64)
    assert runs.error() < 1e-7  # idle parameters walk in float64, too
    assert runs.loss_error() < 1e-12


def test_idle_parameters_are_named() -> None:
    assert compiled("transformer", "Adam").idle == ("blocks.0.mixer.k.bias", "blocks.1.mixer.k.bias")
    assert compiled("residual CNN", "Adam").idle == ("body.0.bias",)
    assert compiled("mlp", "Adam").idle == ()


# --- the rule matters ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", ADAPTIVE)
@pytest.mark.parametrize("name", ["mlp", "layer norm", "transformer", "conv1d"])
def test_elementwise_optimisers_do_not_commute_with_orthogonal_keys(name: str, optimiser: str) -> None:
    training = compiled(name, "SGD")
    assert Power.MIX in training.powers
    runs = run_both(CASES[name], training, OPTIMISERS[optimiser], frozen=training.idle)
    assert runs.error() > 1e-2
    assert runs.loss_error() > 1e-3
    with pytest.raises(EncryptionError, match=r"does not commute with keys that mix: each element's update"):
        training.require(OPTIMISERS[optimiser].steps())


@pytest.mark.parametrize("optimiser", ADAPTIVE)
def test_orthogonal_keys_are_refused_for_elementwise_optimisers(optimiser: str) -> None:
    case = CASES["mlp"]
    module = case.module(torch.float32)
    with pytest.raises(EncryptionError, match="does not commute with keys that mix"):
        EncryptedTraining.compile(
            module, torch.randn(4, 9), loss=case.loss, steps=OPTIMISERS[optimiser].steps(), strongest=ISOMETRY
        )


def test_not_even_sgd_commutes_with_keys_that_scale() -> None:
    """Invertible keys, as for inference, carry the model; but its gradients are then those of another metric."""
    model, _ = exported("mlp with layer norm")
    key = encrypt_trainable(model, epoch=1, seed=SEED, strongest=Power(15)).key
    assert key.keyring is not None
    powers = {powers_of(each) for element in key.keyring.elements for each in element.keys}
    assert any(Power.SCALE in each for each in powers)
    assert not exactness([Step.SGD], Power(15)).exact
    with pytest.raises(EncryptionError, match="keys that scale are not orthogonal"):
        EncryptedTraining.compile(
            mlp(9, 16), torch.randn(4, 9), loss=Loss.SQUARED, steps=[Step.SGD], strongest=Power(15)
        )


def test_clipping_by_value_needs_keys_that_do_not_mix() -> None:
    assert exactness([Step.SGD, Step.CLIP_NORM], ISOMETRY).exact
    assert not exactness([Step.SGD, Step.CLIP_VALUE], ISOMETRY).exact
    assert exactness([Step.SGD, Step.CLIP_VALUE], SIGNED).exact


def test_every_step_has_a_rule_and_a_reason() -> None:
    assert set(RULES) == set(Step)
    for step, rule in RULES.items():
        assert rule.powers in (ISOMETRY, SIGNED)
        assert exactness([step], rule.powers).reason == rule.reason


def test_the_documents_table_is_the_codes() -> None:
    document = Path(__file__).parents[3] / "docs" / "ee-training.md"
    rows = [line.split("|")[1:3] for line in document.read_text().splitlines() if line.startswith("| `")]
    powers = {step: keys for steps, keys in rows for step in re.findall(r"`([^`]+)`", steps)}
    assert powers.keys() == set(Step)
    for step, keys in powers.items():
        assert ("mix" in keys) == (Power.MIX in RULES[Step(step)].powers)


def test_steps_are_read_off_an_optimiser() -> None:
    parameter = [torch.zeros(1, requires_grad=True)]
    sgd = torch.optim.SGD(parameter, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1)
    assert steps_of(sgd) == (Step.SGD, Step.MOMENTUM, Step.NESTEROV, Step.WEIGHT_DECAY)
    assert steps_of(torch.optim.AdamW(parameter)) == (Step.ADAMW, Step.WEIGHT_DECAY)
    with pytest.raises(EncryptionError, match="nothing is known about how Rprop commutes"):
        steps_of(torch.optim.Rprop(parameter))


@pytest.mark.parametrize("powers", [Power(15), ISOMETRY, Power.PERMUTE | Power.MIX, SIGNED, Power.PERMUTE, Power.SIGN])
def test_what_a_key_does_is_read_off_its_values(powers: Power) -> None:
    found = powers_of(draw(powers, SecretStream(SEED, "key"), 9))
    assert found == (ISOMETRY if powers == Power.PERMUTE | Power.MIX else powers)


# --- the cap ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strongest", [Power.PERMUTE, SIGNED, ISOMETRY])
@pytest.mark.parametrize("name", ["transformer", "llama", "residual CNN", "tokens"])
def test_no_key_does_more_than_the_cap(name: str, strongest: Power) -> None:
    model, tensor = exported(name)
    encrypted: EncryptedModel = encrypt_model(model, epoch=1, seed=SEED, strongest=strongest)
    for value in encrypted.plan.layouts:
        allowed = strongest | Power.PLANE  # which is a limit, and no power
        assert all(powers & ~allowed == Power(0) for _, axis in encrypted.plan.groups_of(value) for _, powers in axis)
    assert encrypted.key.input is not None
    assert encrypted.key.output is not None
    hidden = encrypted.key.input.apply(tensor.numpy()).astype(np.float32)
    assert not np.array_equal(hidden, tensor.numpy())
    found = encrypted.key.output.invert(run(encrypted.model, hidden))
    assert np.allclose(found, run(model, tensor.numpy()), atol=1e-4)


class Weighted(nn.Module):
    """Tokens weighted by numbers in the code, which a worker's code has in it, too."""

    weights = torch.linspace(0.5, 1.5, 7)[:, None]

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.first(x).tanh() * self.weights).mean(1))


def test_constants_in_the_code_stay_and_the_axes_that_they_meet_are_shown() -> None:
    module, records = Weighted(), torch.randn(4, 7, 5)
    training = EncryptedTraining.compile(module, records, loss=Loss.CROSS_ENTROPY, steps=[Step.SGD], seed=SEED)
    hidden = training.encrypt_inputs(records)
    # Each token stays in its place, and its features are rotated.
    assert torch.allclose(hidden.norm(dim=-1), records.norm(dim=-1), atol=1e-5)
    assert not torch.allclose(hidden, records, atol=1e-2)
    model = export(module, records, Loss.CROSS_ENTROPY)
    made = encrypt_trainable(model.model, epoch=1, seed=SEED, strongest=ISOMETRY, fixed=model.fixed)
    assert [axis.reason for axis in made.plan.clear_axes() if "fixed constant" in axis.reason]
    free = encrypt_trainable(model.model, epoch=1, seed=SEED, strongest=ISOMETRY)
    assert not free.plan.clear_axes()


# --- keys and states -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["transformer", "residual CNN", "tied"])
def test_states_come_back_and_nothing_stays_in_the_clear(name: str) -> None:
    training = compiled(name, "SGD")
    module = CASES[name].module(torch.float64)
    hidden = training.encrypt_state(tensors_of(module))
    back = training.decrypt_state(hidden)
    for key, tensor in tensors_of(module).items():
        assert torch.allclose(back[key].double(), tensor.double(), atol=1e-12)
        assert (hidden[key].dtype, hidden[key].shape) == (tensor.dtype, tensor.shape)
        if tensor.is_floating_point() and tensor.std() > 0.0:
            assert not torch.allclose(hidden[key], tensor, atol=1e-3), key


def test_a_state_dict_is_a_state() -> None:
    training = compiled("residual CNN", "SGD")
    module = CASES["residual CNN"].module(torch.float32)
    worker = CASES["residual CNN"].network()
    worker.load_state_dict(training.encrypt_state(module.state_dict()))
    assert torch.equal(worker.head.weight, training.encrypt_module(module).head.weight)
    with pytest.raises(EncryptionError, match="no parameter or buffer 'other'"):
        training.encrypt_state({"other": torch.zeros(1)})


def test_the_encrypted_model_is_the_encrypted_module_as_onnx() -> None:
    training = compiled("transformer", "SGD")
    module = CASES["transformer"].module(torch.float32).eval()
    records = torch.randn(5, 7, 5)
    hidden = training.encrypt_inputs(records)
    with torch.no_grad():
        outputs = training.encrypt_module(module)(hidden).log_softmax(-1)
        plain = module(records)
    assert np.allclose(run(training.model, hidden.numpy()), outputs.numpy(), atol=1e-5)
    decrypted = training.decrypt_outputs(outputs)
    assert torch.allclose(decrypted, plain.log_softmax(-1), atol=1e-5)


def test_a_saved_key_resumes() -> None:
    case, training = CASES["transformer"], compiled("transformer", "SGD")
    module, records = case.module(torch.float32), torch.randn(4, 7, 5)
    key = read_key(write_key(training.key))
    resumed = EncryptedTraining.resume(module, records, loss=case.loss, key=key)
    assert (resumed.powers, resumed.idle, resumed.layouts) == (training.powers, training.idle, training.layouts)
    assert torch.equal(resumed.encrypt_inputs(records), training.encrypt_inputs(records))
    with pytest.raises(KeyFileError, match="for encrypting only"):
        EncryptedTraining.resume(module, records, loss=case.loss, key=key.only(KeyPart.ENCRYPT))
    with pytest.raises(KeyFileError, match="belongs to another module"):
        EncryptedTraining.resume(mlp(9, 16), torch.randn(4, 9), loss=Loss.SQUARED, key=key)


# --- losses ----------------------------------------------------------------------------------------------------------


def test_classes_are_permuted_and_targets_with_them() -> None:
    training = compiled("tied", "SGD")
    labels = torch.arange(20)
    hidden = training.encrypt_targets(labels)
    assert sorted(hidden.tolist()) == labels.tolist()
    assert not torch.equal(hidden, labels)
    outputs = torch.nn.functional.one_hot(hidden, 20).double()
    assert torch.equal(training.decrypt_outputs(outputs).argmax(-1), labels)
    with pytest.raises(TensorError, match="not class numbers"):
        training.encrypt_targets(torch.tensor([20]))
    with pytest.raises(TensorError, match="targets have shape"):
        training.encrypt_targets(torch.zeros(3, 2, dtype=torch.int64))


class PerToken(nn.Module):
    """A class for each token."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = mlp(5, 8), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + self.inner(x))


def test_targets_follow_every_axis_of_the_outputs() -> None:
    records = torch.randn(6, 7, 5)
    training = EncryptedTraining.compile(PerToken(), records, loss=Loss.CROSS_ENTROPY, steps=[Step.SGD], seed=SEED)
    assert training.encrypt_targets(torch.randint(0, 4, (6, 7))).shape == (6, 7)


def test_targets_of_a_squared_error_are_mixed_as_outputs_are() -> None:
    module = mlp(9, 16)
    module[2] = nn.Linear(16, 5)
    training = EncryptedTraining.compile(module, torch.randn(4, 9), loss=Loss.SQUARED, steps=[Step.SGD], seed=SEED)
    targets = torch.randn(4, 5)
    hidden = training.encrypt_targets(targets)
    assert torch.allclose(hidden.norm(dim=1), targets.norm(dim=1), atol=1e-5)
    assert not torch.allclose(hidden.abs().sort(dim=1)[0], targets.abs().sort(dim=1)[0], atol=1e-2)
    assert torch.allclose(training.decrypt_outputs(hidden), targets, atol=1e-5)


# --- what is refused -------------------------------------------------------------------------------------------------


class Padded(nn.Module):
    """An embedding with a row that torch's backward pass leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(20, 8, padding_idx=0), nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.embed(ids.long()).mean(1))


class Unused(nn.Module):
    """A weight that the outputs do not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.head = nn.Parameter(torch.randn(8, 9)), nn.Linear(9, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


REFUSED = {
    "dropout": (
        nn.Sequential(nn.Linear(9, 32), nn.Dropout(0.5), nn.Linear(32, 3)), torch.randn(8, 9), "does more in training",
    ),
    "padding index": (Padded(), torch.arange(40.0).reshape(2, 20) % 20, "gradient of 'embed.weight' under the keys"),
    "unused weight": (Unused(), torch.randn(4, 9), "parameter or buffer 'weight' stands in no constant"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_training_does_not_commute_with_is_refused(name: str) -> None:
    module, example, words = REFUSED[name]
    before = copy.deepcopy(tensors_of(module))
    with pytest.raises(EncryptionError, match=words):
        EncryptedTraining.compile(module, example, loss=Loss.CROSS_ENTROPY, steps=[Step.SGD], seed=SEED)
    assert all(torch.equal(before[key], tensor) for key, tensor in tensors_of(module).items())


def test_buffers_that_a_state_dict_leaves_out_are_encrypted() -> None:
    """A rotary table: the worker's code makes the plain one, and gets the encrypted one."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.rand(8) + 0.5, persistent=False)
            self.register_buffer("notes", torch.ones(3))
            self.first, self.head = nn.Linear(9, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head((self.first(x) * self.scale).tanh())

    module = Scaled()
    training = EncryptedTraining.compile(
        module, torch.randn(4, 9), loss=Loss.CROSS_ENTROPY, steps=[Step.SGD], seed=SEED
    )
    worker = copy.deepcopy(module)
    load_tensors(worker, training.encrypt_state(tensors_of(module)))
    assert not torch.allclose(worker.scale, module.scale)
    assert training.unused == {"notes"}
    assert not worker.notes.any()
    assert "notes" not in training.decrypt_state(tensors_of(worker))
    records = torch.randn(5, 9)
    with torch.no_grad():
        found = training.decrypt_outputs(worker(training.encrypt_inputs(records)))
        assert torch.allclose(found, module(records), atol=1e-5)


def test_optimisers_of_tests_have_the_steps_that_they_say() -> None:
    assert Optimiser(lambda p: torch.optim.SGD(p, lr=0.1), clip=1.0).steps() == (Step.SGD, Step.CLIP_NORM)
