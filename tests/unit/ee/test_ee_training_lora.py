"""Adapters trained on an encrypted base are, decrypted, those trained on the plain base."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from rexis.ee.exactness import SIGNED
from rexis.ee.groups import Power
from rexis.ee.training import EncryptedTraining, Step, tensors_of
from rexis.ee.training.lora import AdaptedLinear, AdapterKeys, adapters_of, add_adapters
from rexis.protocol.errors import EncryptionError
from tests.unit.ee.training_networks import CASES, OPTIMISERS, SEED, Optimiser, compiled, train

CASE, RANK = CASES["transformer without gains"], 4
LAYERS = ("embed", "blocks.0.mixer.q", "blocks.0.mixer.v", "blocks.0.mixer.out", "blocks.0.inner.0", "head")
ADAPTIVE = ("Adam", "AdamW, clipped", "RMSprop", "Adagrad")


@cache
def base(optimiser: str) -> EncryptedTraining:
    return compiled(CASE, OPTIMISERS[optimiser])


def adapted(dtype: torch.dtype) -> nn.Module:
    """The network with adapters that have been trained a little, so that both factors have gradients."""
    module = CASE.module(dtype)
    add_adapters(module, LAYERS, RANK, alpha=8.0)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, factor in adapters_of(module).items():
            if name.endswith("lora_b"):
                factor.copy_(0.1 * torch.randn_like(factor))
    return module


def encrypted(module: nn.Module, training: EncryptedTraining, keys: AdapterKeys) -> nn.Module:
    """What the worker gets: the base as it was encrypted before, and encrypted adapters."""
    found = copy.deepcopy(module)
    own = tensors_of(module)
    state = training.encrypt_state({name: own[name] for name in training.layouts})
    state |= keys.encrypt(adapters_of(module))
    found.load_state_dict(state)
    return found


def both(keys: AdapterKeys, training: EncryptedTraining, optimiser: Optimiser) -> tuple[float, float, float]:
    """Error of the decrypted adapters, of the losses, and how far the adapters moved."""
    module = adapted(torch.float32)
    records, targets = CASE.data(module, 64, torch.float32)
    hidden = encrypted(module, training, keys)
    start = torch.cat([each.detach().flatten().clone() for each in adapters_of(module).values()])
    before = tensors_of(copy.deepcopy(hidden))
    losses = train(module, CASE.loss, records, targets, optimiser, 20)
    theirs = train(
        hidden, CASE.loss, training.encrypt_inputs(records), training.encrypt_targets(targets), optimiser, 20
    )
    for name in training.layouts:
        assert torch.equal(before[name], tensors_of(hidden)[name])
    found = torch.cat([each.flatten() for each in keys.decrypt(adapters_of(hidden)).values()])
    plain = torch.cat([each.detach().flatten() for each in adapters_of(module).values()])
    gap = max(abs(a - b) / a for a, b in zip(losses, theirs, strict=True))
    return float((found - plain).norm() / plain.norm()), gap, float((plain - start).norm() / start.norm())


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_decrypted_adapters_are_those_of_training_in_the_clear(optimiser: str) -> None:
    keys = AdapterKeys.draw(base(optimiser), LAYERS, RANK, steps=OPTIMISERS[optimiser].steps(), seed=SEED)
    error, losses, moved = both(keys, base(optimiser), OPTIMISERS[optimiser])
    assert moved > 0.03
    assert error < 1e-5
    assert losses < 1e-5


@pytest.mark.parametrize("optimiser", ADAPTIVE)
def test_elementwise_optimisers_need_keys_that_do_not_mix(optimiser: str) -> None:
    training = base("SGD")
    keys = AdapterKeys.draw(training, LAYERS, RANK, steps=[Step.SGD], seed=SEED)
    error, _, _ = both(keys, training, OPTIMISERS[optimiser])
    assert error > 1e-2
    with pytest.raises(EncryptionError, match="does not commute with keys that mix"):
        AdapterKeys.draw(training, LAYERS, RANK, steps=OPTIMISERS[optimiser].steps(), seed=SEED)


@pytest.mark.parametrize("steps", [(Step.SGD,), (Step.ADAM,)])
def test_each_adapter_has_a_rank_key_of_its_own(steps: tuple[Step, ...]) -> None:
    training = base("SGD" if steps == (Step.SGD,) else "Adam")
    factors = adapters_of(adapted(torch.float64))
    first, second = (
        AdapterKeys.draw(training, LAYERS, RANK, steps=steps, seed=bytes([number]) * 32) for number in (1, 2)
    )
    hidden = first.encrypt(factors)
    assert (Power.MIX in first.powers) == (steps == (Step.SGD,))
    assert first.powers & SIGNED
    other = second.encrypt(factors)
    for name, factor in factors.items():
        assert not torch.allclose(hidden[name], factor, atol=1e-3)
        assert not torch.allclose(hidden[name], other[name], atol=1e-3)
        assert torch.allclose(first.decrypt(hidden)[name], factor, atol=1e-12)
    # The rank key cancels in what the adapter adds to the weight, which is encrypted as the weight is.
    for layer in LAYERS:
        added, theirs = (state[f"{layer}.lora_b"] @ state[f"{layer}.lora_a"] for state in (factors, hidden))
        expected = training.encrypt_state({f"{layer}.weight": added})[f"{layer}.weight"]
        assert torch.allclose(theirs, expected, atol=1e-10)


def test_adapters_start_with_no_effect_and_the_base_is_frozen() -> None:
    module, plain = CASE.module(torch.float32), CASE.module(torch.float32)
    add_adapters(module, LAYERS, RANK, alpha=8.0)
    records = torch.randn(3, *CASE.shape)
    assert torch.equal(module(records), plain(records))
    assert [name for name, each in module.named_parameters() if each.requires_grad] == list(adapters_of(module))
    assert type(module.get_submodule("blocks.0.mixer.q")) is AdaptedLinear
    assert module.state_dict().keys() == plain.state_dict().keys() | adapters_of(module).keys()


def test_a_module_with_adapters_compiles_as_any_other() -> None:
    module = adapted(torch.float32)
    records, _ = CASE.data(module, 4, torch.float32)
    training = EncryptedTraining.compile(module, records, loss=CASE.loss, steps=[Step.SGD], seed=SEED)
    rank = training.layouts["head.lora_a"][0]
    assert [factor.variable for factor in rank] == [factor.variable for factor in training.layouts["head.lora_b"][1]]
    state = training.encrypt_state(adapters_of(module))
    back: dict[str, Tensor] = training.decrypt_state(state)
    assert all(torch.allclose(back[name], each, atol=1e-6) for name, each in adapters_of(module).items())


def test_only_linear_layers_take_adapters() -> None:
    module = CASE.module(torch.float32)
    with pytest.raises(EncryptionError, match=r"layer 'blocks\.0' is not an nn\.Linear"):
        add_adapters(module, ["blocks.0"], RANK, alpha=8.0)
    with pytest.raises(EncryptionError, match="the module has no linear layer 'norm'"):
        AdapterKeys.draw(base("SGD"), ["norm"], RANK, steps=[Step.SGD])
    keys = AdapterKeys.draw(base("SGD"), ["head"], RANK, steps=[Step.SGD])
    with pytest.raises(EncryptionError, match=r"there is no adapter 'embed\.lora_a'"):
        keys.encrypt({"embed.lora_a": torch.zeros(RANK, 5)})
