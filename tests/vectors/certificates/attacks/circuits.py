"""Steps 5 and 13: the circuit's artefacts, the SRS, and whether the circuit is the model's."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from rexis.protocol.certificate import CircuitMaterial
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.policy import Tier
from tests.vectors.certificates.case import ACCEPTED, forged
from tests.vectors.certificates.issuer import Document, Issuer, seal
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


@forged(5, "must be an integer", "coordinator", "worker", "model owner", solidity=ACCEPTED)
def settings_that_exhaust_memory(issuer: Issuer) -> Document:
    """The registered settings name 2^40 rows' worth of columns, to bring down the checker's machine."""
    return _with_settings(issuer, '"logrows":9', '"logrows":40')


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


@forged(12, "not the pinned", "anybody", reexecute=1, model=lambda issuer: artifact_name(issuer.other_model.digest))
def model_file_swapped(issuer: Issuer) -> Document:
    """The auditor was handed another model to run again, for which a forged output would agree."""
    return issuer.commit()
