"""Artefacts: they are those of the current build, deploy, and decode our errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
from eth_abi.abi import encode

from contracts import export
from contracts.addresses import DEPLOYER, address_of_contract, in_order, init_code
from contracts.artefacts import CONTRACTS, ContractName, CoreName, decode_revert, load
from rexis.protocol.keccak import keccak
from rexis.protocol.parsing import Address


@pytest.mark.parametrize("name", CONTRACTS)
def test_load_gives_code_that_fits_a_chain(name: ContractName) -> None:
    artefact = load(name)
    assert 0 < len(artefact.bytecode) <= 2 * export.MAX_CODE  # EIP-3860
    assert json.loads(export.SIZES.read_text())[name]["runtime"] <= export.MAX_CODE
    assert artefact.compiler["solc"].startswith("0.8.37")


def test_addresses_follow_eip_1014() -> None:
    """The EIP's own example, with our formula's parts."""
    deployer, salt, code = bytes(20), bytes(32), b"\0"
    assert keccak(b"\xff" + deployer + salt + keccak(code))[12:].hex() == "4d1a2e2bb4f88f0250f26ffff098b0b30b26bf38"
    assert Address.parse(DEPLOYER) == DEPLOYER


def test_each_address_pins_what_the_contract_refers_to() -> None:
    order = in_order()
    assert sorted(order) == sorted(get_args(CoreName))
    assert len({address_of_contract(name) for name in order}) == len(order)
    for name, refers in (("EvidenceLog", "ModelRegistry"), ("Certifier", "EvidenceLog")):
        assert order.index(refers) < order.index(name)
        assert address_of_contract(refers).raw() in init_code(name)
    assert address_of_contract("Halo2VerifierReusable").raw() in init_code("Certifier")


def test_decode_revert_names_custom_errors() -> None:
    data = keccak(b"UnknownAnchor(uint256)")[:4] + encode(["uint256"], [7])
    found = decode_revert(data)
    assert found is not None
    assert str(found) == "UnknownAnchor(anchorId=7)"


def test_decode_revert_names_a_library_error() -> None:
    data = keccak(b"InstanceOutOfRange(uint256,uint256)")[:4] + encode(["uint256", "uint256"], [1, 2])
    found = decode_revert(data)
    assert found is not None
    assert found.name == "InstanceOutOfRange"


def test_decode_revert_names_solidity_errors() -> None:
    found = decode_revert(keccak(b"Error(string)")[:4] + encode(["string"], ["VKA not registered"]))
    assert found is not None
    assert found.arguments == {"reason": "VKA not registered"}


@pytest.mark.parametrize(
    "data", [b"", b"\x01\x02", b"\xde\xad\xbe\xef", keccak(b"UnknownAnchor(uint256)")[:4] + b"\x01"]
)
def test_decode_revert_gives_none_for_other_data(data: bytes) -> None:
    assert decode_revert(data) is None


@pytest.mark.skipif(not export.OUT.is_dir(), reason="contracts are not built: make setup")
def test_artefacts_are_those_of_the_build(capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main(["--check"]) == 0, capsys.readouterr().err


@pytest.mark.skipif(not export.OUT.is_dir(), reason="contracts are not built: make setup")
def test_export_check_fails_if_a_file_is_stale(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = dict.fromkeys(export.rendered(), "{}\n")
    monkeypatch.setattr(export, "rendered", lambda: files)
    assert export.main(["--check"]) == 1
    assert "Certifier.json is not up to date" in capsys.readouterr().err


def test_export_fails_if_nothing_is_built(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing() -> dict[object, str]:
        raise FileNotFoundError(2, "No such file", "out/ModelRegistry.json")

    monkeypatch.setattr(export, "rendered", missing)
    assert export.main([]) == 2
    assert "make setup" in capsys.readouterr().err


def test_the_docs_figures_are_those_of_the_snapshots() -> None:
    snapshots = Path(export.SIZES).parent
    gas = json.loads((snapshots / "gas.json").read_text()) | json.loads((snapshots / "accountability.json").read_text())
    docs = snapshots.parents[1] / "docs"
    disputes = (docs / "disputes.md").read_text()
    dear = ("challenge (tiny)", "answer (tiny)", "close", "dismiss", "challengeCommit (tiny)", "answerCommit (tiny)")
    for name in (*dear, "warrant", "endWarranty"):
        assert f"{int(gas[f'Disputes.{name}']):,}" in disputes, name
    anchor = int(gas["EvidenceLog.anchor"])
    assert (
        f"{anchor:,} gas a batch: {round(anchor / 4096)} for each" in (docs / "adr/0021-accountability.md").read_text()
    )
    assert anchor / 4096 <= 100
