"""Models and datasets that are known here."""

from __future__ import annotations

import threading
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from sqlmodel import Session

from contracts.onchain import vka_digest
from coordinator.access import Access
from coordinator.audit import record
from coordinator.blobs import Blobs
from coordinator.blocks import Blocks
from coordinator.chain import Ledger
from coordinator.inventory import require_kept
from coordinator.store import Store
from coordinator.tables import DatasetRow, ModelRow
from coordinator.times import Clock
from coordinator.trees import Trees
from rexis.api import DatasetView, ModelRegistration, ModelView
from rexis.protocol.certificate import CircuitMaterial
from rexis.protocol.circuit import NO_CIRCUIT, Circuit
from rexis.protocol.digests import Digest
from rexis.protocol.errors import (
    DigestMismatchError,
    EvidenceError,
    ForbiddenError,
    MalformedError,
    NotFoundError,
    UnavailableError,
)
from rexis.protocol.merkle import MerkleTree
from rexis.protocol.onsite import HashedDataset, open_dataset
from rexis.protocol.parsing import Address
from rexis.protocol.policy import Rung, Tier
from rexis.protocol.records import LeafFormat, Opening, encode_inputs, input_format
from rexis.protocol.rows import Rows
from rexis.protocol.rung import SignedRungClaim, require_rung_claim
from rexis.protocol.tensors import Dataset, Shard
from rexis.protocol.typed_data import Domain
from verifier.circuit import (
    artefacts_of,
    boundaries_of,
    check_vka,
    needed_by_segment,
    needed_bytes,
    proofs_can_be_checked,
)

_MAX_SETTINGS = 8 << 20
_MAX_VK = 64 << 20
_OPEN_DATASETS = 16
_WAITING_CHECKS = 4


@dataclass(frozen=True)
class InputTree:
    """The tree over a dataset's records in one encoding, with what opens them; `values` are the encoded records."""

    form: LeafFormat
    records: Rows
    values: Rows
    salts: Rows
    tree: MerkleTree

    @property
    def root(self) -> Digest:
        """Root over the whole dataset."""
        return self.tree.root

    def open(self, index: int, output: bytes, output_path: list[Digest]) -> Opening:
        """One record with its output."""
        return Opening(
            index=index,
            salt=Digest(self.salts[index : index + 1].tobytes()),
            input=self.form.payload(self.values[index : index + 1].reshape(-1)),
            input_path=self.tree.path(index),
            output=output,
            output_path=output_path,
        )

    def shard(self, start: int, count: int) -> Shard:
        """Some records, with what leads from them to the root."""
        mine = slice(start, start + count)
        return Shard(self.records[mine], self.salts[mine], start, len(self.tree), self.tree.around(start, count))


class Catalogue:
    """Registered models and datasets, with the checks that registration makes.

    Parameters
    ----------
    checking
        Where keys are checked.
    domain
        What owners sign their claims for.
    trees
        Where trees over datasets are kept.
    """

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        access: Access,
        chain: Callable[[], Ledger],
        checking: Executor,
        domain: Domain,
        trees: Trees,
        clock: Clock,
    ) -> None:
        self._store, self._blobs, self._access, self._chain = store, blobs, access, chain
        self._domain, self._clock = domain, clock
        self._checking, self._waiting = checking, threading.BoundedSemaphore(_WAITING_CHECKS)
        self._trees = trees
        self._opened: OrderedDict[Digest, Dataset | HashedDataset] = OrderedDict()
        self._opening, self._blocks = threading.Lock(), Blocks()

    def register_model(self, caller: Address, given: ModelRegistration) -> tuple[ModelView, bool]:
        """Make a model known; returns it and whether it is new.

        Raises
        ------
        MalformedError, DigestMismatchError
            A blob is missing, an artefact is not the pinned one, or the chain has another circuit or no active model.
        EvidenceError, SignatureError
            A rung is claimed that the claim's own numbers do not earn, or by somebody else.
        ForbiddenError
            The chain names another owner.
        """
        # The chain first: nobody has artefacts checked, which is dear, for models that are not theirs.
        registrant = self.require_active(given.model_digest, given.key_epoch, given.circuit, "")
        owner = self.owner_of(given.model_digest)
        if owner != caller:
            raise ForbiddenError(
                f"the model belongs to {owner}", field="modelDigest", hint="its owner on chain registers it here"
            )
        if given.rung_claim is not None:
            self._check_claim(registrant, given, given.rung_claim)
        self._require_held(caller, given.model_digest, "modelDigest", "the encrypted model")
        needed = 0
        if given.circuit == NO_CIRCUIT:
            if given.vka:
                raise MalformedError("a model without a circuit has no VKA", field="vka")
        else:
            needed = self._check_circuit(caller, given)
        circuit = given.circuit
        needed_blobs = {given.model_digest}
        if circuit != NO_CIRCUIT:
            needed_blobs |= {circuit.settings_digest, circuit.vk_digest, circuit.srs_digest}
        with self._store.writing() as session:
            self._require_kept(session, needed_blobs)
            row = session.get(ModelRow, (str(given.model_digest), given.key_epoch))
            created = row is None
            row = row or ModelRow(
                model_digest=str(given.model_digest), key_epoch=given.key_epoch, owner=registrant, circuit="", vka=""
            )
            row.circuit = given.circuit.to_json().decode()
            row.vka = " ".join(str(word) for word in given.vka)
            row.needed_bytes = needed
            if given.rung_claim is not None:
                row.rung_claim = given.rung_claim.to_json().decode()
            session.add(row)
            record(session, self._clock(), caller, "model.register", f"{row.model_digest} epoch {row.key_epoch}")
        return _model_view(row), created

    def _check_claim(self, registrant: Address, given: ModelRegistration, signed: SignedRungClaim) -> None:
        rung, model = Rung.EE_PRIVATE_WEIGHTS, given.model_digest
        claim = require_rung_claim(signed, self._domain, rung=rung, model=model, epoch=given.key_epoch)
        if claim.owner != registrant:
            raise EvidenceError(
                f"is {claim.owner}'s, {registrant} registered the model",
                field="rungClaim.claim.owner",
                hint="the wallet that registered this key epoch signs its claim; a new owner registers one of its own",
            )

    def _check_circuit(self, caller: Address, given: ModelRegistration) -> int:
        """Check a circuit's artefacts; returns the memory that a worker needs for it, by the estimate."""
        circuit = given.circuit
        self._require_held(caller, circuit.srs_digest, "circuit.srsDigest", "the SRS")
        self._require_held(caller, circuit.settings_digest, "circuit.settingsDigest", "the circuit's settings")
        self._require_held(caller, circuit.vk_digest, "circuit.vkDigest", "the verifying key")
        if vka_digest(given.vka) != circuit.vka_digest:
            raise DigestMismatchError(
                f"the words have digest {vka_digest(given.vka)}, not {circuit.vka_digest}", field="vka"
            )
        artefacts = artefacts_of(self.material(circuit, given.vka), circuit)
        needed = needed_bytes(artefacts.settings)
        if not proofs_can_be_checked():
            return needed
        if not self._waiting.acquire(blocking=False):
            raise UnavailableError("many circuits are being checked", hint="try again")
        try:
            self._checking.submit(check_vka, artefacts, self._blobs.path(circuit.srs_digest, "SRS")).result()
        finally:
            self._waiting.release()
        return needed

    def model(self, digest: Digest, epoch: int) -> ModelView | None:
        """A registered model; None if it is not known here."""
        with self._store.reading() as session:
            row = session.get(ModelRow, (str(digest), epoch))
        return _model_view(row) if row else None

    def require_active(self, digest: Digest, epoch: int, circuit: Circuit | None, prefix: str) -> Address:
        """Look on chain, now, that a model is registered and not revoked; returns who registered it.

        Parameters
        ----------
        circuit
            Must be the registered one; None for any.
        prefix
            Of the field that an error names.
        """
        try:
            found = self._chain().registration(digest, epoch)
        except NotFoundError:
            raise MalformedError(
                f"the chain knows no model {digest} with key epoch {epoch}",
                field=f"{prefix}modelDigest",
                hint="its owner registers it on chain first",
            ) from None
        if not found.active:
            raise MalformedError(
                f"key epoch {epoch} of the model was revoked in block {found.revoked_at}", field=f"{prefix}keyEpoch"
            )
        if circuit is not None and not found.has_circuit(circuit):
            raise MalformedError(
                "the chain has another circuit for this model and key epoch",
                field=f"{prefix}circuit",
                hint="circuits are fixed by the model's registration on chain",
            )
        return found.registrant

    def owner_of(self, digest: Digest) -> Address:
        """Look on chain, now, whose a registered model is."""
        return self._chain().owner_of(digest)

    def register_dataset(self, caller: Address, digest: Digest) -> tuple[DatasetView, bool]:
        """Make an uploaded blob known as a dataset; returns it and whether it is new.

        Raises
        ------
        MalformedError
            There is no such blob.
        TensorError
            It is no dataset.
        """
        self._require_held(caller, digest, "digest", "the dataset")
        dataset = self.dataset(digest)
        with self._store.writing() as session:
            self._require_kept(session, {digest})
            row = session.get(DatasetRow, str(digest))
            created = row is None
            row = row or DatasetRow(
                digest=str(digest), owner=caller, shape=" ".join(str(size) for size in dataset.committed.shape)
            )
            session.add(row)
            record(session, self._clock(), caller, "dataset.register", str(digest))
        return _dataset_view(row), created

    def dataset_view(self, caller: Address, digest: Digest) -> DatasetView | None:
        """A registered dataset; None if it is not known here, or not to the caller."""
        if not self._access.may_read(caller, digest):
            return None
        with self._store.reading() as session:
            row = session.get(DatasetRow, str(digest))
        return _dataset_view(row) if row else None

    def dataset(self, digest: Digest) -> Dataset | HashedDataset:
        """A dataset whose records stay in their blob, or hashes of records.

        All are looked at when it is opened, which takes a second for a few hundred MB; the last ones stay open.
        """
        with self._opening:
            if digest in self._opened:
                self._opened.move_to_end(digest)
                return self._opened[digest]
        read, size = self._blobs.reader(digest, "dataset")
        dataset = open_dataset(self._blocks.over(digest, read, size), size)
        with self._opening:
            self._opened[digest] = dataset
            while len(self._opened) > _OPEN_DATASETS:
                self._opened.popitem(last=False)
        return dataset

    def inputs(self, digest: Digest, tier: Tier, circuit: Circuit) -> InputTree:
        """A dataset's input tree as a tier encodes it.

        Raises
        ------
        TensorError
            The records do not fit the encoding.
        """
        form, dataset = input_format(tier, circuit), self.dataset(digest)
        values, salts = encode_inputs(tier, circuit, dataset.committed), dataset.leaf_salts
        name = f"{digest.hex()}-{form.encoding.name.lower()}-{form.scale}"
        tree = self._trees.get(name, len(dataset), lambda: form.leaves(values, salts))
        return InputTree(form, dataset.committed, values, salts, tree)

    def material(self, circuit: Circuit, vka: list[Digest]) -> CircuitMaterial:
        """A circuit's artefacts, for checking proofs and for the certificate."""
        settings = self._blobs.read(circuit.settings_digest, "settings", _MAX_SETTINGS)
        vk = self._blobs.read(circuit.vk_digest, "verifying key", _MAX_VK)
        try:
            text = settings.decode()
        except UnicodeDecodeError:
            raise MalformedError("the settings are not text", field="circuit.settingsDigest") from None
        return CircuitMaterial.from_object(
            {"settings": text, "vk": b64encode(vk).decode(), "vka": [str(word) for word in vka]}
        )

    def boundaries(self, circuit: Circuit) -> tuple[int, ...]:
        """Values on each boundary between the segments of a registered circuit; empty for a single one."""
        return boundaries_of(self._blobs.read(circuit.settings_digest, "settings", _MAX_SETTINGS))

    def needed_by_segment(self, circuit: Circuit) -> tuple[int, ...]:
        """Memory that a worker needs for each segment of a registered circuit, by the estimate."""
        return needed_by_segment(self._blobs.read(circuit.settings_digest, "settings", _MAX_SETTINGS))

    def _require_held(self, caller: Address, digest: Digest, field: str, what: str) -> None:
        if not self._access.holds(caller, digest):
            raise MalformedError(
                f"{what} {digest} has not been uploaded", field=field, hint=f"PUT /v1/blobs/{digest} first"
            )

    def _require_kept(self, session: Session, digests: set[Digest]) -> None:
        if (gone := require_kept(session, sorted(digests), self._clock())) is not None:
            raise MalformedError(f"blob {gone} is not here any more", hint=f"PUT /v1/blobs/{gone} again")


def vka_words(session: Session, digest: Digest, epoch: int) -> list[Digest]:
    """The VKA of a model that is known here."""
    row = session.get(ModelRow, (str(digest), epoch))
    return _words(row.vka) if row else []


def _words(text: str) -> list[Digest]:
    return [Digest.parse(word) for word in text.split()]


def _model_view(row: ModelRow) -> ModelView:
    return ModelView(
        model_digest=Digest.parse(row.model_digest),
        key_epoch=row.key_epoch,
        owner=Address.parse(row.owner),
        circuit=Circuit.from_json(row.circuit.encode()),
        vka=_words(row.vka),
        rung_claim=None if row.rung_claim is None else SignedRungClaim.from_json(row.rung_claim.encode()),
    )


def _dataset_view(row: DatasetRow) -> DatasetView:
    return DatasetView(
        digest=Digest.parse(row.digest),
        owner=Address.parse(row.owner),
        shape=[int(size) for size in row.shape.split()],
    )
