"""Steps 5 and 13: the circuit's artefacts, the SRS, and whether the circuit is the model's."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx.external_data_helper import set_external_data

from circuits.artefacts import vka_digest_of
from circuits.settings import canonical
from rexis.protocol.certificate import CircuitMaterial
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.policy import Tier
from rexis.protocol.records import Floats
from tests.vectors.certificates.case import ACCEPTED, forged
from tests.vectors.certificates.issuer import Claiming, Document, Issuer, Plan, endless_network, log_network, seal
from verifier.artifacts import artifact_name


def registered(issuer: Issuer, settings: str | None = None, vka: list[Digest] | None = None, **pins: Any) -> Document:
    """A certificate under a circuit that the model owner falsified before registering it; the requester believed it."""
    honest = issuer.model.material
    material = CircuitMaterial.model_construct(
        settings=settings or honest.settings, vk=honest.vk, vka=vka or honest.vka
    )
    if settings is not None:
        pins["settings_digest"] = sha256(settings.encode())
    circuit = issuer.model.circuit.model_copy(update=pins)
    epoch = issuer.register(issuer.model.digest, circuit)
    return issuer.issue(issuer.job(Tier.ZK, epoch=epoch, circuit=circuit, material=material))


def misregistered(issuer: Issuer) -> Document:
    """One model's digest registered with the circuit of another; all work is done with the other."""
    epoch = issuer.register(issuer.model.digest, issuer.other_model.circuit)
    job = issuer.job(Tier.ZK, epoch=epoch, model=issuer.other_model, model_digest=issuer.model.digest)
    return issuer.issue(job)


def _registered_with(issuer: Issuer, settings: str, **pins: Any) -> Document:
    """As `registered`, with the VKA that ezkl makes of the falsified settings."""
    vka = issuer.vka_for(settings)
    issuer.chain("owner").register_vka(vka)
    return registered(issuer, settings=settings, vka=vka, vka_digest=vka_digest_of(vka), **pins)


def _of_a_model(issuer: Issuer, data: bytes, claims: Callable[[Floats], Floats]) -> Document:
    """Tier commit with a model of the attackers, which they registered, and outputs of their choice."""
    model = Claiming(data, issuer.model.proving, claims)
    issuer.artifacts.append(data)
    epoch = issuer.register(model.digest, NO_CIRCUIT)
    return issuer.issue(issuer.job(Tier.COMMIT, sample=2, model=model, epoch=epoch))


def _with_settings(issuer: Issuer, old: str, new: str) -> Document:
    settings = issuer.model.material.settings
    assert settings.count(old) == 1, old
    return registered(issuer, settings=settings.replace(old, new))


@forged(5, "is missing", "coordinator")
def circuit_missing(issuer: Issuer) -> Document:
    """The circuit's artefacts are left out, so that there is nothing to check proofs with."""
    return seal({**issuer.zk(), "circuit": None})


@forged(5, "tier commit has no circuit", "coordinator")
def circuit_for_show(issuer: Issuer) -> Document:
    """A circuit in a certificate of tier commit, to look like more than it is."""
    return seal({**issuer.commit(), "circuit": issuer.zk()["circuit"]})


@forged(5, "settings", "coordinator")
def settings_swapped(issuer: Issuer) -> Document:
    """Settings of another circuit than the pinned one."""
    document = issuer.zk()
    settings = document["circuit"]["settings"]
    document["circuit"]["settings"] = settings.replace('"param_scale":6', '"param_scale":1')
    assert document["circuit"]["settings"] != settings
    return seal(document)


@forged(5, "vk_digest", "coordinator", "worker")
def vk_swapped(issuer: Issuer) -> Document:
    """The verifying key of another model's circuit."""
    document = issuer.zk()
    document["circuit"]["vk"] = b64encode(issuer.other_model.material.vk).decode()
    return seal(document)


@forged(5, "vka_digest", "coordinator", "worker", solidity="WrongVka")
def vka_swapped(issuer: Issuer) -> Document:
    """The VKA of another model's circuit."""
    document = issuer.zk()
    document["circuit"]["vka"] = [str(word) for word in issuer.other_model.material.vka]
    return seal(document)


@forged(5, "input_visibility", "coordinator", "worker", "model owner", solidity=ACCEPTED)
def settings_with_private_inputs(issuer: Issuer) -> Document:
    """The registered settings say that inputs are private, so that a proof would say nothing of the committed ones."""
    return _with_settings(issuer, '"input_visibility":"Public"', '"input_visibility":"Private"')


@forged(5, "output_visibility", "coordinator", "worker", "model owner", solidity=ACCEPTED)
def settings_with_private_outputs(issuer: Issuer) -> Document:
    """The registered settings say that outputs are private."""
    return _with_settings(issuer, '"output_visibility":"Public"', '"output_visibility":"Private"')


@forged(5, "param_visibility", "coordinator", "worker", "model owner", solidity=ACCEPTED)
def settings_with_free_weights(issuer: Issuer) -> Document:
    """The registered settings say that weights are private witnesses: a prover could prove with any."""
    return _with_settings(issuer, '"param_visibility":"Fixed"', '"param_visibility":"Private"')


@forged(5, "ignore_range_check_inputs_outputs", "coordinator", "worker", "model owner", solidity=ACCEPTED)
def settings_without_range_checks(issuer: Issuer) -> Document:
    """The registered settings leave out the range checks of inputs and outputs."""
    old = '"ignore_range_check_inputs_outputs":false'
    return _with_settings(issuer, old, old.replace("false", "true"))


@forged(5, "canonical", "coordinator", "worker", "model owner", solidity=ACCEPTED)
def settings_not_canonical(issuer: Issuer) -> Document:
    """The registered settings have a white space more: two digests for one circuit."""
    return _with_settings(issuer, '"timestamp":0', '"timestamp": 0')


@forged(5, "logrows", "coordinator", "worker", "model owner", solidity=ACCEPTED)
def settings_that_exhaust_memory(issuer: Issuer) -> Document:
    """The registered settings name 2^40 rows' worth of columns, to bring down the checker's machine."""
    return _with_settings(issuer, '"logrows":9', '"logrows":40')


@forged(5, "num_rows", "coordinator", "worker", "model owner", solidity=ACCEPTED)
def settings_with_many_columns(issuer: Issuer) -> Document:
    """The registered settings ask for as many rows as a million columns hold, to bring down the checker's machine."""
    settings = json.loads(issuer.model.material.settings)
    return registered(issuer, settings=canonical({**settings, "num_rows": 1 << 29}).decode())


@forged(5, "output_scale", "coordinator", "worker", "model owner", solidity=ACCEPTED)
def output_scale_lied(issuer: Issuer) -> Document:
    """The registered circuit's output scale is one less than the settings': all outputs read as twice as large."""
    return registered(issuer, output_scale=issuer.model.circuit.output_scale - 1)


@forged(5, "input_length", "coordinator", "worker", "model owner", solidity="WrongInstanceCount")
def lengths_lied(issuer: Issuer) -> Document:
    """The registered circuit has one input more than the settings'."""
    return registered(issuer, input_length=5)


@forged(5, "VKA digest", "coordinator", "worker", "model owner", solidity="ProofRejected")
def vka_not_of_the_vk(issuer: Issuer) -> Document:
    """Two circuits registered as one: the vk of the model's for auditors, the VKA of another for the contract."""
    other = issuer.other_model
    return registered(issuer, vka=list(other.material.vka), vka_digest=other.circuit.vka_digest)


@forged(5, "VKA digest", "coordinator", "worker", "model owner", solidity=ACCEPTED)
def srs_not_of_the_vk(issuer: Issuer) -> Document:
    """The registered circuit names another SRS than the one its keys were made with."""
    return registered(issuer, srs_digest=issuer.other_srs.digest)


@forged(5, "not the pinned", "anybody", srs=lambda issuer: artifact_name(issuer.other_srs.digest))
def srs_file_swapped(issuer: Issuer) -> Document:
    """The auditor was handed an SRS file whose secret the attacker knows."""
    return issuer.zk()


@forged(12, "differs", "model owner", "requester", reexecute=2)
def circuit_of_another_model_reexecuted(issuer: Issuer) -> Document:
    """The model owner registered the circuit of another model. The proofs hold; the model itself gives other outputs."""
    return misregistered(issuer)


@forged(13, "not the pinned", "model owner", "requester", rebuild_circuit=True)
def circuit_of_another_model_rebuilt(issuer: Issuer) -> Document:
    """The model owner registered the circuit of another model, and the auditor, who has the model, builds it again."""
    return misregistered(issuer)


@forged(13, "model_output_scales", "coordinator", "worker", "model owner", rebuild_circuit=True, solidity=ACCEPTED)
def settings_with_another_output_scale(issuer: Issuer) -> Document:
    """The registered settings say that outputs have one bit less behind the point: all outputs read as twice as large.
    Keys do not depend on it; the model's own settings show it."""
    settings = json.loads(issuer.model.material.settings)
    scale = issuer.model.circuit.output_scale - 1
    lying = canonical({**settings, "model_output_scales": [scale]}).decode()
    return _registered_with(issuer, lying, output_scale=scale)


@forged(13, "model_input_scales", "coordinator", "worker", "model owner", rebuild_circuit=True, solidity=ACCEPTED)
def settings_with_another_input_scale(issuer: Issuer) -> Document:
    """The registered settings say that inputs have one bit more behind the point: the model ran on doubled records."""
    settings = json.loads(issuer.model.material.settings)
    scale = issuer.model.circuit.input_scale + 1
    lying = canonical({**settings, "model_input_scales": [scale]}).decode()
    return _registered_with(issuer, lying, input_scale=scale)


@forged(12, "not finite", "worker", "coordinator", "model owner", reexecute=2)
def model_that_gives_nan(issuer: Issuer) -> Document:
    """The model gives NaN, from which nothing differs by more than any tolerance; the worker claims 123456."""
    return _of_a_model(issuer, log_network(), lambda rows: np.full((len(rows), 2), 123456, np.float32))


@forged(12, "in another file", "worker", "coordinator", "model owner", reexecute=2)
def model_with_external_weights(issuer: Issuer) -> Document:
    """The registered file holds no weights, but the name of a file with them: whoever hands that file out chooses what
    the digest stands for."""
    proto = onnx.load_from_string(issuer.model.onnx)
    offset = 0
    for tensor in proto.graph.initializer:
        length = len(tensor.raw_data)
        set_external_data(tensor, "weights.bin", offset=offset, length=length)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        offset += length
    return _of_a_model(issuer, proto.SerializeToString(), issuer.other_model.run)


@forged(12, "control flow (Loop)", "worker", "coordinator", "model owner", reexecute=2)
def model_that_loops(issuer: Issuer) -> Document:
    """A model that runs for ever, so that no auditor who runs it again comes to an end."""
    return _of_a_model(issuer, endless_network(), lambda rows: np.zeros((len(rows), 2), np.float32))


@forged(12, "outputs of different lengths", "worker", "coordinator", reexecute=2)
def outputs_of_different_lengths(issuer: Issuer) -> Document:
    """Tier commit: one of the opened records has half an output."""
    job = issuer.job(Tier.COMMIT, sample=2)
    return issuer.issue(job, Plan(payload=lambda index, honest: honest if index == 1 else honest[:4]))


@forged(12, "not the pinned", "anybody", reexecute=1, model=lambda issuer: artifact_name(issuer.other_model.digest))
def model_file_swapped(issuer: Issuer) -> Document:
    """The auditor was handed another model to run again, for which a forged output would agree."""
    return issuer.commit()
