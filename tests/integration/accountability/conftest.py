"""One chain, one coordinator and one tiny circuit for all tests here, each of which has statements of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from circuits.artefacts import CircuitCache
from circuits.build import build_circuit
from circuits.process import EzklProcess
from circuits.srs import ensure_development_srs
from contracts.accountable import AccountableChain
from contracts.devchain import DevChain
from rexis.protocol.errors import UnavailableError
from rexis.protocol.signing import address_of, new_account
from tests.integration.accountability.town import CommandLine, Town, TownRig, terms
from tests.integration.circuits.tiny_circuit import TINY, mlp


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    pytest.importorskip("ezkl")
    folder = tmp_path_factory.mktemp("town")
    try:
        dev = DevChain.start(block_time_s=0.3)
    except UnavailableError as error:
        pytest.skip(str(error))
    owner, account = new_account(), new_account()
    for one in (owner, account):
        dev.fund(address_of(one))
    chain = AccountableChain.connect(dev.url, account=owner)
    deployment = chain.deploy_all()
    manifest = chain.deploy_accountability(terms(chain.address, chain.address))
    rig = TownRig(folder, dev, deployment, owner=owner, account=account)
    (folder / "accountability.json").write_bytes(manifest.to_json())
    rig.start(REXIS_ACCOUNTABILITY=str(folder / "accountability.json"))
    try:
        with EzklProcess() as ezkl:
            srs = ensure_development_srs(TINY.logrows, folder)
            circuit = build_circuit(mlp(0), TINY, srs, CircuitCache(folder / "keys"), ezkl)
            yield Town(folder, dev, rig, circuit, ezkl, manifest)
    finally:
        rig.close()
        dev.stop()


@pytest.fixture
def cli(town: Town, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(town, monkeypatch, capsys)
