"""A worker and a coordinator in memory: honest by default, dishonest where a :class:`Plan` says so.

The chain is a real anvil with the real contracts, the proofs are ezkl's, the model is a 4-3-2 network. What is
simulated is only who would do the work, so that an attack can change one thing and keep all the rest in order.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
from hexbytes import HexBytes
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from web3 import Web3
from web3.types import TxParams, Wei
from web3.utils.address import get_create_address

from circuits.artefacts import CircuitArtefacts, CircuitCache, read_vka
from circuits.build import ProvingCircuit, build_circuit
from circuits.hashing import poseidon
from circuits.process import EzklProcess
from circuits.profile import CircuitProfile
from circuits.proving import Proof, Prover
from circuits.srs import Srs
from contracts.artefacts import ContractName, load
from contracts.chain import AnchorProof, Chain, Deployment
from contracts.devchain import DevChain
from contracts.node import checksummed
from rexis.protocol.certificate import DEVELOPMENT_CHAINS, FORMAT, CircuitMaterial, seal_text
from rexis.protocol.challenge import challenge_indices
from rexis.protocol.circuit import NO_CIRCUIT, Circuit, Visibility
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import NotFoundError
from rexis.protocol.evidence import Evidence, Measured, RecordProof
from rexis.protocol.merkle import MerkleTree
from rexis.protocol.onsite import SALT_VALUES, HashedDataset, PrivateDataset, salted
from rexis.protocol.parsing import Address, to_hex
from rexis.protocol.policy import Policy, Rung, Tier
from rexis.protocol.records import (
    Opening,
    boundary_payload,
    encode_inputs,
    input_format,
    input_root,
    output_format,
    output_salt,
    quantise,
)
from rexis.protocol.signing import address_of, sign_digest, sign_text
from rexis.protocol.statement import JobRequest, Kind, Statement, statement_for
from rexis.protocol.tensors import Dataset, pack_outputs
from rexis.protocol.typed_data import Domain
from tests.vectors.certificates.accounts import account
from tests.vectors.certificates.quorum import Quorum

Document = dict[str, Any]

# The smallest circuit that ezkl makes of the model with a short proof: 2 kB, and an SRS of 64 kB.
PROFILE = CircuitProfile(
    input_scale=6, param_scale=6, decomposition_base=256, decomposition_legs=2, inner_columns=1, logrows=9
)
# With hashed inputs: the hash alone has 576 rows.
ONSITE_PROFILE = PROFILE.model_copy(update={"logrows": 10, "input_visibility": "hashed"})
_CUTS = (2,)  # after the ReLU
ISSUED_AT = "2026-01-02T00:00:00Z"
_FLOAT_TOLERANCE_E9 = 10_000  # 1e-5
_FIXED_TOLERANCE_E9 = 250_000_000  # 0.25: six bits behind the point


def network(seed: int, width: int = 4) -> bytes:
    """A 4-3-2 network with ReLU as ONNX bytes; the seed gives the weights, `width` other than 4 inputs."""
    rng = np.random.default_rng(seed)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((rng.standard_normal(shape) / 2).astype(np.float32), name)

    data = _model(
        [
            helper.make_node("Gemm", ["input", "w1", "b1"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["active"]),
            helper.make_node("Gemm", ["active", "w2", "b2"], ["output"]),
        ],
        [weights("w1", width, 3), weights("b1", 3), weights("w2", 3, 2), weights("b2", 2)],
        width,
    )
    onnx.checker.check_model(onnx.load_from_string(data))
    return data


def log_network() -> bytes:
    """The logarithm of each record's values, summed: NaN for a record with a negative one."""
    return _model(
        [
            helper.make_node("Log", ["input"], ["logs"]),
            helper.make_node("ReduceSum", ["logs", "axis"], ["sum"], keepdims=1),
            helper.make_node("Concat", ["sum", "sum"], ["output"], axis=1),
        ],
        [numpy_helper.from_array(np.array([1], np.int64), "axis")],
    )


def endless_network() -> bytes:
    """A loop of 2^62 rounds."""
    inside = [helper.make_tensor_value_info("round", TensorProto.INT64, [])]
    inside += [helper.make_tensor_value_info("go", TensorProto.BOOL, [])]
    inside += [helper.make_tensor_value_info("values", TensorProto.FLOAT, None)]
    after = [helper.make_tensor_value_info("still", TensorProto.BOOL, [])]
    after += [helper.make_tensor_value_info("turned", TensorProto.FLOAT, None)]
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["still"]), helper.make_node("Sin", ["values"], ["turned"])],
        "body",
        inside,
        after,
    )
    numbers = {"rounds": np.array(2**62), "on": np.array(True), "from": np.array([0]), "to": np.array([2])}
    return _model(
        [
            helper.make_node("Loop", ["rounds", "on", "input"], ["turned"], body=body),
            helper.make_node("Slice", ["turned", "from", "to", "axis"], ["output"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in {**numbers, "axis": np.array([1])}.items()],
    )


def _model(nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto], width: int = 4) -> bytes:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 2])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def records(seed: int, count: int) -> Dataset:
    """Records that stand for encrypted ones: 4 values each, within the circuit's range."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(-2, 2, (count, 4)).astype(np.float32)
    return Dataset(values, rng.integers(0, 256, (count, 32), dtype=np.uint8))


def material_of(artefacts: CircuitArtefacts) -> CircuitMaterial:
    """Artefacts as a certificate embeds them."""
    return CircuitMaterial.from_object(
        {
            "settings": artefacts.settings.decode(),
            "vk": b64encode(artefacts.vk).decode(),
            "vka": [str(word) for word in artefacts.vka],
        }
    )


@dataclass(frozen=True)
class Model:
    """A model with its circuit and keys."""

    onnx: bytes
    proving: ProvingCircuit

    @property
    def digest(self) -> Digest:
        return sha256(self.onnx)

    @property
    def circuit(self) -> Circuit:
        return self.proving.artefacts.description

    @property
    def material(self) -> CircuitMaterial:
        return material_of(self.proving.artefacts)

    def run(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        session = onnxruntime.InferenceSession(self.onnx, providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {"input": values})[0], dtype=np.float32)


@dataclass(frozen=True)
class Claiming(Model):
    """A model whose worker claims whatever it likes."""

    claims: Callable[[NDArray[np.float32]], NDArray[np.float32]]

    def run(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.claims(values)


@dataclass(frozen=True)
class Job:
    """A signed request, and what belongs to it.

    Attributes
    ----------
    model
        What the worker runs and proves with.
    """

    request: JobRequest
    signature: bytes
    domain: Domain
    data: Dataset | PrivateDataset
    model: Model
    material: CircuitMaterial | None

    @property
    def tier(self) -> Tier:
        return self.request.policy.tier


@dataclass(frozen=True)
class Plan:
    """How worker and coordinator depart from the protocol; by default not at all.

    Attributes
    ----------
    shards
        (start, count) of the tasks, instead of those of the request.
    data
        Records that the worker really uses, with its own input tree.
    payload
        From a record's index and its honest output payload to the one that the worker commits.
    statement
        From the honest statement to the one that the worker signs.
    signer
        Whose key signs the statement.
    choose
        From the records that the tier asks for to those that are opened and proved.
    discarded
        Commitments of other statements that the coordinator made before, for the same task.
    committer, anchorer
        Whose transactions they are.
    commits, anchors
        Whether they are made at all; if not, block numbers and hashes are invented.
    anchor_first
        Anchor before the commitment.
    certify
        How many records are certified on chain, if the policy wants it; None for all.
    """

    shards: Sequence[tuple[int, int]] | None = None
    data: Dataset | PrivateDataset | None = None
    payload: Callable[[int, bytes], bytes] = lambda index, honest: honest
    statement: Callable[[Statement], Statement] = lambda honest: honest
    signer: str = "worker"
    choose: Callable[[list[int]], list[int]] = lambda drawn: drawn
    discarded: int = 0
    committer: str = "coordinator"
    anchorer: str = "coordinator"
    commits: bool = True
    anchors: bool = True
    anchor_first: bool = False
    certify: int | None = None


HONEST = Plan()


@dataclass(frozen=True)
class _Inputs:
    """A job's records: what goes into the circuit, and what is committed of it."""

    rows: NDArray[Any]
    salts: list[bytes]
    payloads: list[bytes]
    tree: MerkleTree


@dataclass
class _Task:
    statement: Statement
    signature: bytes
    digest: Digest
    openings: dict[int, Opening]
    outputs_digest: Digest
    commitment: Document | None = None
    opening_block_hash: str | None = None
    anchor: Document = field(default_factory=dict)
    opened: list[int] = field(default_factory=list)
    certified: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Creation:
    """A transaction that creates a contract, in the form of web3's calls."""

    web3: Web3
    init_code: bytes

    def estimate_gas(self, transaction: TxParams) -> int:
        return self.web3.eth.estimate_gas(self.build_transaction(transaction))

    def build_transaction(self, transaction: TxParams) -> TxParams:
        return {**transaction, "data": HexBytes(self.init_code), "value": Wei(0)}


def _word(address: Address) -> bytes:
    return address.raw().rjust(32, b"\0")


class Issuer:
    """Makes jobs and issues their certificates.

    Parameters
    ----------
    dev
        The chain.
    ezkl
        A child process, the caller's to close.
    srs, other_srs, onsite_srs
        Development SRS; the second for attacks that swap it, the third for circuits with hashed inputs.
    cache
        Folder for keys.
    """

    def __init__(
        self, dev: DevChain, ezkl: EzklProcess, srs: Srs, other_srs: Srs, onsite_srs: Srs, cache: Path
    ) -> None:
        self.dev, self.srs, self.other_srs, self.onsite_srs = dev, srs, other_srs, onsite_srs
        self._ezkl, self._cache = ezkl, CircuitCache(cache)
        self._chains: dict[tuple[str, str], Chain] = {}
        self._quorums: dict[str, Quorum] = {}
        self._second: Deployment | None = None
        self.artifacts: list[bytes] = []  # models of the attackers
        self._proofs: dict[tuple[Digest, bytes], Proof] = {}
        self._hashed: dict[bytes, NDArray[np.int64]] = {}  # what goes into the circuit, by its hash
        self.model, self.other_model = self._build(1), self._build(2)
        self.segmented_model, self.other_segmented_model = self._build(3, _CUTS), self._build(4, _CUTS)
        self.deployment = self._node("owner").deploy_all()
        self.onsite_model = self.hashing(network(5))
        for model in (self.model, self.other_model, self.onsite_model, self.segmented_model):
            self._introduce(model)
        # On a chain that has a past: more than the jobs and epochs of before, each of which took a block.
        self._jobs = self._epochs = self.chain("owner").block_number()

    def _introduce(self, model: Model) -> None:
        """Register a model's first epoch, and its VKA if the contract can check its proofs, unless it is registered."""
        owner = self.chain("owner")
        try:
            known = owner.registration(model.digest, 1)
        except NotFoundError:
            owner.register(model.digest, 1, model.circuit)
            if len(model.proving.artefacts.segments) == 1:
                owner.register_vka(model.material.vka)
        else:
            assert known.circuit_hash == model.circuit.hash_struct(), "another SRS than the chain's first issuer had"

    def _build(self, seed: int, cuts: tuple[int, ...] = ()) -> Model:
        model, profile = network(seed), PROFILE.model_copy(update={"cuts": cuts})
        return Model(model, build_circuit(model, profile, self.srs, self._cache, self._ezkl))

    def hashing(self, model: bytes) -> Model:
        """A model with a circuit that hashes its inputs."""
        return Model(model, build_circuit(model, ONSITE_PROFILE, self.onsite_srs, self._cache, self._ezkl))

    def private(self, data: Dataset, scale: int) -> PrivateDataset:
        """Records salted and hashed."""
        return PrivateDataset.of(data.records, scale, lambda rows: poseidon(rows, self._ezkl))

    def unsalted(self, data: Dataset, scale: int) -> PrivateDataset:
        """Records hashed with zeros where salts should be."""
        zeros = np.zeros((len(data), 2 * SALT_VALUES), dtype=np.uint8)
        hashes = poseidon(salted(quantise(data.records, scale), zeros), self._ezkl)
        return PrivateDataset(data.records, zeros, HashedDataset(hashes, scale))

    def _node(self, name: str) -> Chain:
        self.dev.fund(address_of(account(name)))
        return Chain.connect(self.dev.url, account=account(name))

    def chain(self, name: str, deployment: Deployment | None = None) -> Chain:
        """A connection as one of the accounts."""
        deployment = deployment or self.deployment
        key = (name, str(deployment.evidence_log))
        if key not in self._chains:
            self._chains[key] = self._node(name)
            self._chains[key]._use(deployment)  # `attach` would refuse those of the attackers
        return self._chains[key]

    def vka_for(self, settings: str) -> list[Digest]:
        """The VKA of the model's vk under other settings than its own."""
        with TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "settings").write_text(settings)
            (folder / "vk").write_bytes(self.model.material.vk)
            files = {what: str(folder / what) for what in ("settings", "vk")}
            self._ezkl.call("vka", **files, srs=str(self.srs.path), out=str(folder / "vka"))
            return list(read_vka((folder / "vka").read_bytes()))

    def next_epoch(self) -> int:
        """A key epoch that no case has used."""
        self._epochs += 1
        return self._epochs

    def register(self, model: Digest, circuit: Circuit) -> int:
        """Register a fresh key epoch of a model with a circuit, true or not; returns the epoch."""
        epoch = self.next_epoch()
        self.chain("owner").register(model, epoch, circuit)
        return epoch

    def second_deployment(self) -> Deployment:
        """The same contracts once more, deployed by somebody else in the ordinary way, so at other addresses."""
        if self._second is None:
            at: dict[ContractName, Address] = {}
            for name, refers in (
                ("ModelRegistry", ()),
                ("EvidenceLog", ("ModelRegistry",)),
                ("Halo2VerifierReusable", ()),
                ("Certifier", ("EvidenceLog", "Halo2VerifierReusable")),
            ):
                at[name] = self.create(load(name).bytecode + b"".join(_word(at[other]) for other in refers))
            self._second = self.deployment.model_copy(
                update={
                    "model_registry": at["ModelRegistry"],
                    "evidence_log": at["EvidenceLog"],
                    "certifier": at["Certifier"],
                    "halo2_verifier": at["Halo2VerifierReusable"],
                }
            )
        return self._second

    def create(self, init_code: bytes) -> Address:
        """A contract of the attackers."""
        chain = self._node("stranger")
        nonce = chain._web3.eth.get_transaction_count(checksummed(chain.address))
        chain._send(_Creation(chain._web3, init_code))
        return Address.parse(get_create_address(checksummed(chain.address), nonce))

    def quorum(self, name: str) -> Quorum:
        """Validators of a quorum (:data:`~tests.vectors.certificates.quorum.SEATS`), who have joined it."""
        if name not in self._quorums:
            self._quorums[name] = Quorum.seated(self.dev, name)
        return self._quorums[name]

    def code(self, address: Address) -> bytes:
        """The code at an address."""
        return bytes(self._node("stranger")._web3.eth.get_code(checksummed(address)))

    def with_code(self, code: bytes, storage: Mapping[bytes, bytes] | None = None) -> Address:
        """A contract with this very code, whose constructor wrote to its storage whatever the attackers wanted."""
        # PUSH32 value, PUSH32 slot, SSTORE, for each. Then the shortest constructor there is: PUSH2 size, DUP1,
        # PUSH2 offset, PUSH1 0, CODECOPY, PUSH1 0, RETURN.
        seed = b"".join(b"\x7f" + value + b"\x7f" + slot + b"\x55" for slot, value in (storage or {}).items())
        return self.create(seed + bytes.fromhex(f"61{len(code):04x}8061{len(seed) + 13:04x}6000396000f3") + code)

    def certifier_for(self, log: Address) -> Address:
        """A real Certifier that refers to a log."""
        return self.create(load("Certifier").bytecode + _word(log) + _word(self.deployment.halo2_verifier))

    def job(
        self,
        tier: Tier,
        *,
        count: int = 2,
        shard: int = 2,
        sample: int = 0,
        epoch: int = 1,
        model: Model | None = None,
        circuit: Circuit | None = None,
        material: CircuitMaterial | None = None,
        model_digest: Digest | None = None,
        domain: Domain | None = None,
        signer: str = "requester",
        max_attempts: int = 3,
        certify_on_chain: bool = False,
        validators: int = 0,
        rung: Rung = Rung.EE_OUTSOURCED,
        data: Dataset | PrivateDataset | None = None,
    ) -> Job:
        """A new job over `count` records, signed. `circuit` and `material` default to the model's own."""
        model, domain = model or self.model, domain or self.deployment.domain
        if tier == Tier.COMMIT:
            circuit, material = NO_CIRCUIT, None
        else:
            circuit, material = circuit or model.circuit, material or model.material
        data = data or records(7, count + 1)
        if circuit.visibility == Visibility.HASHED:
            rung = Rung.ZK_ONSITE
            data = data if isinstance(data, PrivateDataset) else self.private(data, circuit.input_scale)
        tolerance = _FLOAT_TOLERANCE_E9 if tier == Tier.COMMIT else _FIXED_TOLERANCE_E9
        self._jobs += 1
        request = JobRequest(
            kind=Kind.EVALUATION,
            model_digest=model_digest or model.digest,
            key_epoch=epoch,
            circuit=circuit,
            dataset_digest=data.digest,
            input_root=input_root(tier, circuit, data.committed, data.leaf_salts),
            input_size=len(data),
            record_start=1,
            record_count=count,
            policy=Policy(
                tier=tier,
                sample_size=sample,
                shard_size=shard,
                max_attempts=max_attempts,
                abs_tolerance_e9=tolerance,
                rel_tolerance_e9=0,
                rung=rung,
                validators=validators,
                certify_on_chain=certify_on_chain,
            ),
            requester=address_of(account("requester")),
            coordinator=address_of(account("coordinator")),
            nonce=sha256(b"job ", str(self._jobs).encode()),
        )
        return Job(request, sign_digest(account(signer), request.job_id(domain)), domain, data, model, material)

    def issue(self, job: Job, plan: Plan = HONEST, deployment: Deployment | None = None) -> Document:
        """Run a job and return its sealed certificate."""
        deployment = deployment or self.deployment
        shards = job.request.shards() if plan.shards is None else plan.shards
        inputs = self._inputs(job, plan.data or job.data)
        tasks = [self._compute(job, plan, inputs, start, count) for start, count in shards]
        if plan.anchor_first:
            self._anchor(job, plan, tasks, deployment)
        for task in tasks:
            self._challenge(job, plan, task, deployment)
        if not plan.anchor_first:
            self._anchor(job, plan, tasks, deployment)
        evidence = [self._evidence(job, plan, task) for task in tasks]
        if job.request.policy.certify_on_chain:
            self._certify(job, plan, tasks, evidence, deployment)
        development = ["chain"] if job.domain.chain_id in DEVELOPMENT_CHAINS else []
        development += ["srs"] if job.tier != Tier.COMMIT else []
        document: Document = {
            "format": FORMAT,
            "domain": job.domain.to_object(),
            "contracts": {"modelRegistry": deployment.model_registry, "certifier": deployment.certifier},
            "request": job.request.to_object(),
            "requestSignature": to_hex(job.signature),
            "circuit": job.material.to_object() if job.material else None,
            "tasks": [
                {
                    "evidence": made.to_object(),
                    "commitment": task.commitment,
                    "openingBlockHash": task.opening_block_hash,
                    "anchor": task.anchor,
                    "certified": task.certified,
                }
                for task, made in zip(tasks, evidence, strict=True)
            ],
            "development": development,
            "issuedAt": ISSUED_AT,
        }
        return seal(document)

    # --- the worker ---------------------------------------------------------------------------------------------

    def _inputs(self, job: Job, data: Dataset | PrivateDataset) -> _Inputs:
        tier, circuit = job.tier, job.request.circuit
        written = input_format(tier, circuit)
        encoded = encode_inputs(tier, circuit, data.committed)
        rows = encoded
        if isinstance(data, PrivateDataset):
            rows = salted(quantise(data.records, circuit.input_scale), data.secrets)
            self._hashed |= {shown.tobytes(): row for shown, row in zip(encoded, rows, strict=True)}
        salts = [salt.tobytes() for salt in data.leaf_salts]
        payloads = [written.payload(row) for row in encoded]
        tree = MerkleTree(written.leaf(salt, payload) for salt, payload in zip(salts, payloads, strict=True))
        return _Inputs(rows, salts, payloads, tree)

    def _compute(self, job: Job, plan: Plan, inputs: _Inputs, start: int, count: int) -> _Task:
        request, salts = job.request, inputs.salts
        out_format = output_format(job.tier, request.circuit)
        honest = self._outputs(job, inputs.rows[start : start + count])
        outputs = [plan.payload(start + offset, out_format.payload(row)) for offset, row in enumerate(honest)]
        out_tree = MerkleTree(
            out_format.leaf(output_salt(salts[start + offset]), payload) for offset, payload in enumerate(outputs)
        )
        statement = plan.statement(
            statement_for(
                request,
                job.domain,
                start=start,
                count=count,
                output_root=out_tree.root,
                worker=address_of(account("worker")),
                nonce=sha256(b"lease ", request.nonce, str(start).encode()),
            )
        )
        digest = job.domain.digest(statement)
        return _Task(
            statement=statement,
            signature=sign_digest(account(plan.signer), digest),
            digest=digest,
            openings={
                start + offset: Opening(
                    index=start + offset,
                    salt=Digest(salts[start + offset]),
                    input=inputs.payloads[start + offset],
                    input_path=inputs.tree.path(start + offset),
                    output=payload,
                    output_path=out_tree.path(offset),
                )
                for offset, payload in enumerate(outputs)
            },
            outputs_digest=sha256(pack_outputs(honest)),
        )

    def _outputs(self, job: Job, rows: NDArray[Any]) -> NDArray[Any]:
        if job.tier == Tier.COMMIT:
            return job.model.run(rows)
        return Prover(job.model.proving, self._ezkl).outputs(rows)

    def _evidence(self, job: Job, plan: Plan, task: _Task) -> Evidence:
        task.opened = plan.choose(self._asked(job, task))
        proofs = []
        if job.tier != Tier.COMMIT:
            proofs = [self.prove(job, i, task.openings[i].input) for i in task.opened]
        private = job.request.circuit.visibility == Visibility.HASHED
        return Evidence.model_construct(  # rexis would refuse to make some of these
            statement=task.statement,
            signature=task.signature,
            outputs_digest=task.outputs_digest,
            openings=[task.openings[index] for index in task.opened],
            proofs=proofs,
            measured=Measured(
                max_abs_error_e9=0,
                rms_error_e9=0,
                compute_ms=0 if private else 1,
                prove_ms=0 if private else 300,
                provider="CPUExecutionProvider",
            ),
        )

    def prove(self, job: Job, index: int, payload: bytes) -> RecordProof:
        """Honest proofs of what the job's model makes of one input."""
        key = (job.model.circuit.vk_digest, payload)
        if key not in self._proofs:
            row = self._hashed.get(payload, np.frombuffer(payload, dtype=">i8").astype(np.int64))
            self._proofs[key] = Prover(job.model.proving, self._ezkl).prove(row)
        made = self._proofs[key]
        boundaries = [boundary_payload(values) for values in made.boundaries]
        return RecordProof(index=index, proofs=made.proofs, boundaries=boundaries)

    def _asked(self, job: Job, task: _Task) -> list[int]:
        start, count = task.statement.record_start, task.statement.record_count
        if job.tier == Tier.ZK:
            return sorted(task.openings)
        drawn_by = task.commitment["challengeBlockHash"] if task.commitment else task.opening_block_hash
        sample = job.request.policy.sample_size
        return challenge_indices(task.digest, Digest.parse(drawn_by), start, count, sample) if sample else []

    # --- the coordinator ----------------------------------------------------------------------------------------

    def _challenge(self, job: Job, plan: Plan, task: _Task, deployment: Deployment) -> None:
        if job.tier != Tier.SAMPLED:
            return
        if not plan.commits:
            task.commitment = {
                "attempt": 1,
                "blockNumber": 5,
                "challengeBlockHash": str(self.chain("coordinator").block_hash(6)),
                "transaction": str(sha256(b"no such transaction")),
            }
            return
        chain = self.chain(plan.committer, deployment)
        for attempt in range(plan.discarded):
            chain.commit(task.statement.task_id, sha256(b"discarded statement ", bytes([attempt]), task.digest))
        made, transaction = chain.commit(task.statement.task_id, task.digest)
        self.dev.mine()
        task.commitment = {
            "attempt": made.attempt,
            "blockNumber": made.block,
            "challengeBlockHash": str(chain.block_hash(made.block + 1)),
            "transaction": str(transaction.hash),
        }

    def _anchor(self, job: Job, plan: Plan, tasks: Sequence[_Task], deployment: Deployment) -> None:
        chain = self.chain(plan.anchorer, deployment)
        tree = MerkleTree([sha256(b"a statement of another job"), *(task.digest for task in tasks)])
        if plan.anchors:
            made, transaction = chain.anchor(tree.root, len(tree))
            self.dev.mine()
            anchor_id, block, hashed = made.anchor_id, made.block, transaction.hash
        else:
            anchor_id, block, hashed = 0, chain.block_number(), sha256(b"no such transaction")
            self.dev.mine()
        for position, task in enumerate(tasks):
            task.anchor = {
                "anchorId": anchor_id,
                "root": str(tree.root),
                "size": len(tree),
                "leafIndex": position + 1,
                "path": [str(node) for node in tree.path(position + 1)],
                "blockNumber": block,
                "transaction": str(hashed),
            }
            if job.tier == Tier.COMMIT:
                task.opening_block_hash = str(chain.block_hash(block + 1))

    def _certify(
        self, job: Job, plan: Plan, tasks: Sequence[_Task], evidence: Sequence[Evidence], deployment: Deployment
    ) -> None:
        chain = self.chain("coordinator", deployment)
        left = job.request.record_count if plan.certify is None else plan.certify
        for task, made in zip(tasks, evidence, strict=True):
            anchor = task.anchor
            place = AnchorProof(anchor["anchorId"], anchor["leafIndex"], [Digest.parse(x) for x in anchor["path"]])
            for opening, proof in zip(made.openings, made.proofs, strict=True):
                if left > 0:
                    vka = (job.material or job.model.material).vka
                    sent = chain.certify_record(task.statement, task.signature, place, opening, proof.proofs[0], vka)
                    task.certified.append(str(sent.hash))
                else:  # some other transaction, to make up the number
                    task.certified.append(anchor["transaction"])
                left -= 1

    # --- honest certificates that attacks start from ------------------------------------------------------------

    @cached_property
    def _commit(self) -> Document:
        return self.issue(self.job(Tier.COMMIT, count=4, shard=2, sample=1))

    @cached_property
    def _sampled(self) -> Document:
        return self.issue(self.job(Tier.SAMPLED, count=6, shard=6, sample=2))

    @cached_property
    def _zk(self) -> Document:
        return self.issue(self.job(Tier.ZK))

    @cached_property
    def _onsite(self) -> Document:
        return self.issue(self.job(Tier.ZK, model=self.onsite_model))

    def onsite(self) -> Document:
        """Tier zk and rung zk-onsite, one task of two records."""
        return deepcopy(self._onsite)

    @cached_property
    def handed_over(self) -> Model:
        """A model of which the owner registered the epochs 1 and 2 without a circuit, before it was the heir's."""
        model, owner, heir = self.other_segmented_model, self.chain("owner"), self.chain("heir")
        for epoch in (1, 2):
            owner.register(model.digest, epoch, NO_CIRCUIT)
        owner.propose_owner(model.digest, heir.address)
        heir.accept_ownership(model.digest)
        return model

    @cached_property
    def segmented(self) -> Document:
        """Tier zk, one task of two records, with a circuit of two segments."""
        return self.issue(self.job(Tier.ZK, model=self.segmented_model))

    def commit(self) -> Document:
        """Tier commit, two tasks of two records, one opened of each."""
        return deepcopy(self._commit)

    def sampled(self) -> Document:
        """Tier sampled, one task of six records, two of them proved."""
        return deepcopy(self._sampled)

    def zk(self) -> Document:
        """Tier zk, one task of two records."""
        return deepcopy(self._zk)


def seal(document: Document, by: str = "coordinator") -> Document:
    """The document with a seal over what it says now."""
    sealed = {key: value for key, value in document.items() if key != "seal"}
    return {**sealed, "seal": to_hex(sign_text(account(by), seal_text(sealed)))}


def high_s(signature: bytes) -> bytes:
    """The other signature over the same digest, with a high s, that anybody can make of a signature (EIP-2)."""
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    s = order - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])
