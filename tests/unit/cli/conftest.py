"""The command line, called in this process, and the files of a model owner."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from models import zoo
from rexis.cli.main import main
from rexis.cli.passphrase import VARIABLE
from rexis.ee import EEKey, load_key, save_key
from rexis.ee.keyfile import read_private
from rexis.protocol.certificate import Anchor, Certificate, CertifiedTask, Contracts
from rexis.protocol.circuit import NO_CIRCUIT, Circuit, Visibility
from rexis.protocol.digests import ZERO_DIGEST, Digest, sha256
from rexis.protocol.evidence import Evidence, Measured
from rexis.protocol.parsing import ZERO_ADDRESS
from rexis.protocol.policy import Policy, Rung, Tier
from rexis.protocol.records import Floats, Integers, input_root, output_format, output_salts
from rexis.protocol.statement import JobRequest, Kind, statement_for
from rexis.protocol.tensors import Dataset
from rexis.protocol.typed_data import Domain
from rexis.wallet import create_wallet, load_wallet

PASSPHRASE = "correct horse battery staple"
MODEL = zoo.ONNX_DIR / "breast_cancer.onnx"
MANIFEST = zoo.ONNX_DIR / "breast_cancer.manifest.json"


@dataclass
class Ran:
    code: int
    out: str
    err: str


@dataclass
class Cli:
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: object) -> Ran:
        code = main([str(argument) for argument in arguments])
        captured = self.capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    def ok(self, *arguments: object) -> Ran:
        ran = self(*arguments)
        assert ran.code == 0, ran.err
        return ran


@pytest.fixture(autouse=True)
def passphrase(monkeypatch: pytest.MonkeyPatch) -> str:
    for name in [name for name in os.environ if name.startswith("REXIS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv(VARIABLE, PASSPHRASE)
    monkeypatch.setenv("COLUMNS", "200")
    return PASSPHRASE


@pytest.fixture(autouse=True)
def stretched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a key file or wallet takes scrypt a second: open none that was written here, and others only once."""
    monkeypatch.setattr("rexis.ee.load_key", _load_key)
    monkeypatch.setattr("rexis.ee.save_key", _save_key)
    monkeypatch.setattr("rexis.wallet.load_wallet", cached_wallet)


@pytest.fixture(scope="session")
def wallet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("wallet") / "wallet.json"
    create_wallet(file, PASSPHRASE)
    return file


cached_wallet = cache(load_wallet)


# By the key file's digest and the passphrase.
_opened: dict[tuple[Digest, str], EEKey] = {}


def _load_key(path: Path, passphrase: str) -> EEKey:
    known = sha256(read_private(path)), passphrase
    if known not in _opened:
        _opened[known] = load_key(path, passphrase)
    return _opened[known]


def _save_key(path: Path, key: EEKey, passphrase: str) -> None:
    save_key(path, key, passphrase)
    _opened[sha256(path.read_bytes()), passphrase] = key


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@dataclass
class Owned:
    """Where `rexis keygen` put things."""

    folder: Path

    @property
    def key_file(self) -> Path:
        return self.folder / "model.key"

    @property
    def model_file(self) -> Path:
        return self.folder / "encrypted.onnx"

    def key(self) -> EEKey:
        return _load_key(self.key_file, PASSPHRASE)


@pytest.fixture(scope="session")
def keygen(tmp_path_factory: pytest.TempPathFactory) -> Owned:
    made = Owned(tmp_path_factory.mktemp("owner"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, PASSPHRASE)
        files = ["--key", str(made.key_file), "--out", str(made.model_file)]
        code = main(["keygen", "--model", str(MODEL), *files, "--epoch", "3"])
    assert code == 0
    return made


CIRCUIT = Circuit(
    vk_digest=Digest(b"\x01" * 32),
    vka_digest=Digest(b"\x02" * 32),
    srs_digest=Digest(b"\x03" * 32),
    settings_digest=Digest(b"\x04" * 32),
    visibility=Visibility.PUBLIC,
    input_scale=7,
    output_scale=14,
    input_length=30,
    output_length=2,
)


def job(tier: Tier, key: EEKey, dataset: Dataset, blob: bytes, shard: int) -> JobRequest:
    """A request for all of a dataset."""
    circuit = NO_CIRCUIT if tier == Tier.COMMIT else CIRCUIT
    policy = Policy(
        tier=tier,
        sample_size=0,
        shard_size=shard,
        max_attempts=1,
        abs_tolerance_e9=0,
        rel_tolerance_e9=0,
        rung=Rung.EE_OUTSOURCED,
        validators=0,
        certify_on_chain=False,
    )
    return JobRequest(
        kind=Kind.EVALUATION,
        model_digest=key.model_digest,
        key_epoch=key.epoch,
        circuit=circuit,
        dataset_digest=sha256(blob),
        input_root=input_root(tier, circuit, dataset.records, dataset.salts),
        input_size=len(dataset),
        record_start=0,
        record_count=len(dataset),
        policy=policy,
        requester=ZERO_ADDRESS,
        coordinator=ZERO_ADDRESS,
        nonce=ZERO_DIGEST,
    )


def certificate(request: JobRequest, domain: Domain, dataset: Dataset, outputs: Floats | Integers) -> Certificate:
    """A certificate of the right form, whose roots hold; nobody signed it. `outputs` are of the request's records."""
    leaves = output_format(request.policy.tier, request.circuit)
    tasks = []
    for start, count in request.shards():
        salts = output_salts(dataset.salts[start : start + count])
        first = start - request.record_start
        root = leaves.tree(outputs[first : first + count], salts).root
        statement = statement_for(
            request, domain, start=start, count=count, output_root=root, worker=ZERO_ADDRESS, nonce=ZERO_DIGEST
        )
        measured = Measured(max_abs_error_e9=0, rms_error_e9=0, compute_ms=0, prove_ms=0, provider="none")
        evidence = Evidence(
            statement=statement, signature=b"", outputs_digest=ZERO_DIGEST, openings=[], proofs=[], measured=measured
        )
        anchor = Anchor(
            anchor_id=0, root=ZERO_DIGEST, size=1, leaf_index=0, path=[], block_number=1, transaction=ZERO_DIGEST
        )
        tasks.append(
            CertifiedTask(evidence=evidence, commitment=None, opening_block_hash=None, anchor=anchor, certified=[])
        )
    return Certificate(
        format="rexis-certificate-v1",
        domain=domain,
        contracts=Contracts(model_registry=ZERO_ADDRESS, certifier=ZERO_ADDRESS),
        request=request,
        request_signature=b"",
        circuit=None,
        tasks=tasks,
        development=[],
        issued_at="2026-11-01T00:00:00Z",
        seal=b"",
    )


def npy(path: Path, array: object) -> Path:
    np.save(path, np.asarray(array))
    return path
