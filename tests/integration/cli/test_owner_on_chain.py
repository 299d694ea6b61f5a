"""deploy, register and revoke against a real chain, and a coordinator that only stores."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from circuits.build import ProvingCircuit, build_circuit
from circuits.profile import profile_for
from circuits.srs import ensure_development_srs
from contracts.chain import Chain
from contracts.devchain import DevChain
from contracts.onchain import Deployment
from models import zoo
from rexis.cli.main import main
from rexis.protocol.digests import sha256
from rexis.protocol.parsing import ZERO_ADDRESS
from rexis.protocol.policy import Rung
from rexis.protocol.rung import SignedRungClaim, require_rung_claim
from rexis.wallet import create_wallet, wallet_address

from ...unit.cli.test_key_commands import base_model
from ...unit.client.fake_coordinator import FakeCoordinator, Reply, Request, serving

MODEL = zoo.ONNX_DIR / "breast_cancer.onnx"
PASSPHRASE = "correct horse battery staple"
_BLOCK_S = 0.2


@dataclass
class Store(FakeCoordinator):
    deployment: dict[str, Any] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    models: list[dict[str, Any]] = field(default_factory=list)

    def handle(self, request: Request) -> Reply:
        match (request.method, request.path.strip("/").split("/")[1:]):
            case (_, ["info"]):
                info = json.loads(super().handle(request).body)
                log = self.deployment["evidenceLog"]
                return Reply.json(
                    info | {"domain": {"chainId": 31337, "verifyingContract": log}, "maxBlobBytes": 1 << 30}
                )
            case (_, ["auth", _]):
                return super().handle(request)
            case ("HEAD", ["blobs", digest]):
                return Reply(200 if digest in self.blobs else 404)
            case ("PUT", ["blobs", digest]):
                self.blobs[digest] = request.body
                return Reply.json({"digest": digest, "size": len(request.body)})
            case ("POST", ["models"]):
                self.models.append(json.loads(request.body))
                return Reply.json(self.models[-1] | {"owner": "0x" + "0" * 40})
        return Reply.problem(404, "not-found")


@dataclass
class World:
    folder: Path
    chain: DevChain
    capsys: pytest.CaptureFixture[str]
    server: Store

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = self.capsys.readouterr()
        return code, captured.out, captured.err

    def wallet(self, name: str) -> Path:
        path = self.folder / f"{name}.json"
        if not path.exists():
            create_wallet(path, PASSPHRASE)
            self.chain.fund(wallet_address(path))
        return path

    def on_chain(self, owner: str = "owner") -> tuple[object, ...]:
        return (
            "--epoch", 1, "--rpc", self.chain.url, "--deployment", self.folder / "deployment.json",
            "--wallet", self.wallet(owner), "--json",
        )  # fmt: skip

    def register(self, *more: object, owner: str = "owner") -> tuple[int, str, str]:
        coordinator = ("--coordinator", self.server.url, "--cache", self.folder / "cache")
        return self("register", "--model", MODEL, *self.on_chain(owner), *coordinator, *more)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the owner's wallet, the state of a chain on which it deployed the contracts, and the deployment."""
    folder, written = tmp_path_factory.mktemp("deployed"), io.StringIO()
    create_wallet(folder / "owner.json", PASSPHRASE)
    chain = DevChain.start(block_time_s=_BLOCK_S, state=folder / "state.json")
    chain.fund(wallet_address(folder / "owner.json"))
    files = ("--wallet", str(folder / "owner.json"), "--out", str(folder / "deployment.json"))
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(written):
        patch.setenv("REXIS_PASSPHRASE", PASSPHRASE)
        code = main(["deploy", "--rpc", chain.url, *files, "--json"])
    chain.stop()
    assert (code, json.loads(written.getvalue())) == (0, json.loads((folder / "deployment.json").read_text()))
    return folder


@pytest.fixture
def world(
    tmp_path: Path, deployed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    monkeypatch.setenv("REXIS_PASSPHRASE", PASSPHRASE)
    shutil.copytree(deployed, tmp_path, dirs_exist_ok=True)
    chain = DevChain.start(block_time_s=_BLOCK_S, state=tmp_path / "state.json")
    try:
        made = World(tmp_path, chain, capsys, Store(deployment=json.loads((tmp_path / "deployment.json").read_text())))
        with serving(made.server):
            yield made
    finally:
        chain.stop()


def test_deploying_again_says_that_nothing_was_to_be_done(world: World) -> None:
    again = world.folder / "again.json"
    code, out, err = world("deploy", "--rpc", world.chain.url, "--wallet", world.wallet("owner"), "--out", again)
    assert code == 0, err
    assert "nothing: all contracts were there already" in out
    assert again.read_bytes() == (world.folder / "deployment.json").read_bytes()


def test_a_deployment_of_disputes_and_its_manifest(world: World) -> None:
    owner = wallet_address(world.wallet("owner"))
    terms, manifest = world.folder / "terms.json", world.folder / "accountability.json"
    wanted = {
        "governance": owner, "token": ZERO_ADDRESS, "treasury": owner, "bond": "10", "penalty": "1000",
        "rewardBps": 4000, "challengePeriod": 9, "responseWindow": 8, "validatorDelay": 7, "validatorMinStake": "6",
        "thresholdBps": 6666,
    }  # fmt: skip
    terms.write_text(json.dumps(wanted))
    files = ("--terms", terms, "--out", manifest)
    code, out, err = world("disputes", "deploy", "--rpc", world.chain.url, "--wallet", world.wallet("owner"), *files)
    assert code == 0, err
    assert "9 to challenge, 8 to answer" in out
    made = json.loads(manifest.read_text())
    assert made["terms"] == wanted

    show = ("disputes", "show", "--rpc", world.chain.url, "--manifest", manifest)
    code, out, err = world(*show, "--worker", owner, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["manifest"] == made
    assert (found["stake"]["amount"], found["reputation"]["faulted"]) == (0, 0)
    code, out, _ = world(*show, "--worker", owner)
    assert code == 0
    assert "reputation       certified 0, vindicated 0, faulted 0" in out

    manifest.write_text(json.dumps({**made, "terms": {**wanted, "penalty": "1"}}))
    code, _, err = world(*show)
    assert code != 0
    assert "does not follow from the terms" in err


def test_a_model_from_registration_to_revocation(world: World) -> None:
    circuit = ("--profile", "breast_cancer", "--srs", "development")
    code, out, err = world.register(*circuit)
    assert code == 0, err
    assert "SRS: development, 0x" in err
    assert "auditors refuse it" in err
    first = json.loads(out)
    assert first["transaction"] is not None
    pinned = first["circuit"]
    named = {pinned["vkDigest"], pinned["srsDigest"], pinned["settingsDigest"], str(sha256(MODEL.read_bytes()))}
    assert set(world.server.blobs) == named

    code, out, err = world.register(*circuit)  # once more, as after a crash
    assert code == 0, err
    assert json.loads(out) == first | {"transaction": None}

    code, _, err = world.register()
    assert (code, "with another circuit" in err) == (1, True)
    code, _, err = world.register(*circuit, owner="somebody-else")
    assert (code, f"is {wallet_address(world.wallet('owner'))}'s" in err) == (1, True)

    model = ("--model", first["modelDigest"])
    code, out, err = world("revoke", *model, *world.on_chain())
    assert code == 0, err
    code, _, err = world("revoke", *model, *world.on_chain())
    assert code == 1
    code, _, err = world.register(*circuit)
    assert (code, "was revoked in block" in err) == (1, True)


def test_a_model_is_handed_over_in_two_steps(world: World) -> None:
    code, out, err = world.register()
    assert code == 0, err
    model = json.loads(out)["modelDigest"]
    owner, heir = (wallet_address(world.wallet(name)) for name in ("owner", "heir"))
    chain = ("--model", model, "--rpc", world.chain.url, "--deployment", world.folder / "deployment.json")

    def run(command: str, *more: object, wallet: str | None = None) -> Any:
        signed = () if wallet is None else ("--wallet", world.wallet(wallet))
        code, out, err = world("model", command, *chain, *signed, *more, "--json")
        return json.loads(out) if code == 0 else err

    assert "NotModelOwner" in run("transfer", "--to", heir, wallet="heir")
    assert "NotProposed" in run("accept", wallet="heir")
    run("transfer", "--to", heir, wallet="owner")
    assert run("owner") == {"modelDigest": model, "block": None, "owner": owner, "proposed": heir}
    run("withdraw", wallet="owner")
    assert "NotProposed" in run("accept", wallet="heir")
    run("transfer", "--to", heir, wallet="owner")
    accepted = run("accept", wallet="heir")["block"]
    assert run("owner") == {"modelDigest": model, "block": None, "owner": heir, "proposed": None}
    assert run("owner", "--block", accepted - 1)["owner"] == owner
    code, out, _ = world("model", "owner", *chain)
    assert (code, out.split()) == (0, ["owner", heir])

    code, _, err = world.register()
    assert (code, f"model {model} is {heir}'s" in err) == (1, True)
    code, out, err = world.register(owner="heir")  # uploads it in its own name; the epoch stays its registrant's
    assert code == 0, err
    assert "NotModelOwner" in world("revoke", "--model", model, *world.on_chain())[2]
    code, _, err = world("revoke", "--model", model, *world.on_chain("heir"))
    assert code == 0, err


@pytest.mark.parametrize(("distance", "claimed"), [(1.2, True), (0.5, False)])
def test_a_rung_is_claimed_only_where_the_card_earns_it(world: World, distance: float, claimed: bool) -> None:
    model, card = world.folder / "encrypted.onnx", world.folder / "card.json"
    base = base_model(world.folder / "base.onnx", distance)
    code, _, err = world(
        "ee", "encrypt", "--model", MODEL, "--key", world.folder / "key", "--out", model, "--base", base, "--card", card
    )
    assert code == 0, err
    coordinator = ("--coordinator", world.server.url, "--rung", "ee-private-weights")
    arguments = ("register", "--model", model, *world.on_chain(), *coordinator)
    code, _, err = world(*arguments)
    assert (code, "go together" in err) == (2, True)
    code, out, err = world(*arguments, "--card", card)
    if not claimed:
        assert (code, world.server.blobs, world.server.models) == (1, {}, [])
        assert "only 50.0% from the base model, 100% are needed" in err
        return
    assert code == 0, err
    signed = SignedRungClaim.from_object(json.loads(out)["rungClaim"])
    domain = Deployment.from_json((world.folder / "deployment.json").read_bytes()).domain
    rung, digest = Rung.EE_PRIVATE_WEIGHTS, sha256(model.read_bytes())
    claim = require_rung_claim(signed, domain, rung=rung, model=digest, epoch=1)
    assert claim.owner == wallet_address(world.wallet("owner"))


def test_a_vka_of_another_vk_is_not_registered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*arguments: Any) -> ProvingCircuit:
        built = build_circuit(*arguments)
        first, second, *rest = built.artefacts.vka
        swapped = dataclasses.replace(built.artefacts, vka=(second, first, *rest))
        return dataclasses.replace(built, artefacts=swapped)

    monkeypatch.setattr("circuits.build.build_circuit", build)
    code, _, err = world.register("--profile", "breast_cancer", "--srs", "development")
    assert (code, "the vk has VKA digest" in err) == (1, True)
    assert world.server.blobs == {}
    code, out, err = world.register()  # the epoch is still free
    assert code == 0, err
    assert json.loads(out)["transaction"] is not None


def test_commit_only(world: World) -> None:
    code, out, err = world.register()
    assert code == 0, err
    assert json.loads(out)["circuit"]["visibility"] == "none"
    assert len(world.server.blobs) == 1


def test_a_shared_development_srs_has_to_be_called_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = ensure_development_srs(profile_for("breast_cancer").logrows, world.folder / "shared")
    profile = ("--profile", "breast_cancer")
    code, _, err = world.register(*profile, "--srs", shared.path)
    rows = f"2^{profile_for('breast_cancer').logrows} rows"
    assert (code, f"is not the perpetual powers of tau's SRS for {rows}" in err) == (1, True)
    assert "--srs development:FILE" in err
    assert world.server.blobs == {}

    said: list[str] = []  # what stood on the terminal when the transaction was sent
    register = Chain.register

    def note_first(self: Chain, *arguments: Any) -> Any:
        said.append(world.capsys.readouterr().err)
        return register(self, *arguments)

    monkeypatch.setattr(Chain, "register", note_first)
    code, out, err = world.register(*profile, "--srs", f"development:{shared.path}")
    assert code == 0, err
    assert f"SRS: development, {shared.digest}" in said[0]
    assert "auditors refuse it" in said[0]
    assert json.loads(out)["circuit"]["srsDigest"] == str(shared.digest)


def test_refusals(world: World) -> None:
    assert world.register("--profile", "breast_cancer")[0] == 2
    code, _, err = world.register("--profile", "none-such", "--srs", "development")
    assert (code, "no tuned circuit profile" in err) == (1, True)
    broken = world.folder / "broken.srs"
    broken.write_bytes(b"\x0d\0\0\0")
    assert world.register("--profile", "breast_cancer", "--srs", broken)[0] == 1
    world.server.deployment = {"evidenceLog": "0x" + "0" * 40}
    code, _, err = world.register()
    assert (code, "the coordinator works on chain 31337" in err) == (1, True)
    assert world.server.blobs == {}
    taken = world.folder / "deployment.json"
    code, _, err = world("deploy", "--rpc", world.chain.url, "--wallet", world.wallet("owner"), "--out", taken)
    assert (code, "will not be overwritten" in err) == (1, True)
