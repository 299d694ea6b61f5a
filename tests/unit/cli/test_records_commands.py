"""keygen, encrypt and decrypt: round trips, and input that is refused without being repeated."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from models import zoo
from rexis.ee.container import model_digest
from rexis.protocol.digests import sha256
from rexis.protocol.parsing import ZERO_ADDRESS
from rexis.protocol.policy import Tier
from rexis.protocol.records import quantise
from rexis.protocol.tensors import Dataset, pack_outputs
from rexis.protocol.typed_data import Domain

from .conftest import CIRCUIT, MANIFEST, MODEL, PASSPHRASE, Cli, Owned, certificate, job, npy

RECORDS, _ = zoo.held_out("breast_cancer")


def run_model(model: Path, records: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"records": records})[0]


def raw_csv(path: Path, columns: list[str], rows: list[list[object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


class TestKeygen:
    def test_files(self, keygen: Owned) -> None:
        assert keygen.key_file.stat().st_mode & 0o777 == 0o600
        assert keygen.key().model_digest == sha256(keygen.model_file.read_bytes())
        assert keygen.key().epoch == 3
        assert sorted(path.name for path in keygen.folder.iterdir()) == ["encrypted.onnx", "model.key"]

    def test_says_no_secret(self, cli: Cli, tmp_path: Path) -> None:
        ran = cli.ok("keygen", "--model", MODEL, "--key", tmp_path / "k", "--out", tmp_path / "m", "--json")
        key = Owned(tmp_path).key_file
        (tmp_path / "k").rename(key)
        text = ran.out + ran.err
        assert Owned(tmp_path).key().data_secret.hex() not in text
        assert PASSPHRASE not in text
        assert json.loads(ran.out)["keyEpoch"] == 1

    @pytest.mark.parametrize("taken", ["k", "m"])
    def test_never_overwrites(self, cli: Cli, tmp_path: Path, taken: str) -> None:
        (tmp_path / taken).write_text("precious")
        ran = cli("keygen", "--model", MODEL, "--key", tmp_path / "k", "--out", tmp_path / "m")
        assert (ran.code, ran.out) == (1, "")
        assert (tmp_path / taken).read_text() == "precious"
        assert len(list(tmp_path.iterdir())) == 1

    def test_key_goes_if_the_model_cannot_be_written(self, cli: Cli, tmp_path: Path) -> None:
        ran = cli("keygen", "--model", MODEL, "--key", tmp_path / "k", "--out", tmp_path / "missing" / "m")
        assert (ran.code, list(tmp_path.iterdir())) == (1, [])

    def test_external_data(self, cli: Cli, tmp_path: Path) -> None:
        plain = zoo.load_model_bytes("vit")
        (tmp_path / "plain").mkdir()
        split, out = tmp_path / "plain" / "vit.onnx", tmp_path / "vit.onnx"
        model = onnx.load_model_from_string(plain)
        onnx.save(model, split, save_as_external_data=True, location="vit.bin", size_threshold=1024)
        ran = cli.ok("keygen", "--model", split, "--key", tmp_path / "k", "--out", out, "--external-data", "--json")
        assert {path.name for path in tmp_path.iterdir()} == {"k", "vit.onnx", "vit.onnx.data", "plain"}
        assert json.loads(ran.out)["error"] < 1e-5
        assert json.loads(ran.out)["modelDigest"] == str(model_digest(out))
        assert out.stat().st_size + out.with_name("vit.onnx.data").stat().st_size < 1.5 * len(plain)
        assert cli.ok("ee", "card", out).out.startswith(f"model   {model_digest(out)}")

    def test_external_data_never_overwrites_and_leaves_nothing(self, cli: Cli, tmp_path: Path) -> None:
        (tmp_path / "m.data").write_text("precious")
        ran = cli("keygen", "--model", MODEL, "--key", tmp_path / "k", "--out", tmp_path / "m", "--external-data")
        assert (ran.code, [path.name for path in tmp_path.iterdir()]) == (1, ["m.data"])
        folder = tmp_path / "missing"
        ran = cli("keygen", "--model", MODEL, "--key", tmp_path / "k", "--out", folder / "m", "--external-data")
        assert (ran.code, [path.name for path in tmp_path.iterdir()]) == (1, ["m.data"])
        assert "does the folder exist?" in ran.err

    def test_not_a_model(self, cli: Cli, tmp_path: Path) -> None:
        ran = cli("keygen", "--model", MANIFEST, "--key", tmp_path / "k", "--out", tmp_path / "m")
        assert ran.code == 1
        assert ran.err.splitlines()[-1].startswith("error: ")
        assert not (tmp_path / "k").exists()


class TestEncrypt:
    def test_standardised_and_raw_give_the_same(self, cli: Cli, keygen: Owned, tmp_path: Path) -> None:
        manifest = zoo.load_manifest("breast_cancer")
        raw = RECORDS.astype(np.float64) * manifest.standardisation.std + manifest.standardisation.mean
        names = list(manifest.feature_names)
        order = list(reversed(range(30)))  # columns are found by name
        table = raw_csv(
            tmp_path / "raw.csv",
            [names[i] for i in order],
            [[repr(float(row[i])) for i in order] for row in raw],
        )
        plain = npy(tmp_path / "plain.npy", RECORDS)
        key = keygen.key_file
        cli.ok("encrypt", "--key", key, "--records", plain, "--out", tmp_path / "a")
        ran = cli.ok(
            "encrypt", "--key", key, "--records", table, "--manifest", MANIFEST, "--out", tmp_path / "b", "--json"
        )
        first = Dataset.from_bytes((tmp_path / "a").read_bytes())
        second = Dataset.from_bytes((tmp_path / "b").read_bytes())
        np.testing.assert_allclose(first.records, second.records, atol=1e-4)
        assert not np.array_equal(first.records, RECORDS)
        assert json.loads(ran.out) == {
            "dataset": str(tmp_path / "b"),
            "datasetDigest": str(sha256((tmp_path / "b").read_bytes())),
            "shape": [143, 30],
        }
        assert "warning" not in ran.err

    def test_warns_of_raw_values(self, cli: Cli, keygen: Owned, tmp_path: Path) -> None:
        records = npy(tmp_path / "r.npy", RECORDS * 1000)
        ran = cli.ok("encrypt", "--key", keygen.key_file, "--records", records, "--out", tmp_path / "d")
        assert "standardised?" in ran.err

    def test_refuses(self, cli: Cli, keygen: Owned, tmp_path: Path) -> None:
        holed = RECORDS.copy()
        holed[5, 7] = np.nan
        cases = {
            "shape": (RECORDS[:, :29], "expected [n, 30]"),
            "rank": (RECORDS[0], "expected [records, features…]"),
            "empty": (RECORDS[:0], "expected [records, features…]"),
            "dtype": (RECORDS.astype(np.int64), "expected float32"),
            "objects": (np.asarray([{}]), "dtype is object"),
            "nan": (holed, "record 5, column '7'"),
            "too large": (RECORDS.astype(np.float64) * 1e300, "beyond float32"),
        }
        for name, (array, reason) in cases.items():
            path = npy(tmp_path / f"{name}.npy", array)
            ran = cli("encrypt", "--key", keygen.key_file, "--records", path, "--out", tmp_path / "d")
            assert (name, ran.code, ran.out) == (name, 1, "")
            assert reason in ran.err
            assert "Traceback" not in ran.err
            assert not (tmp_path / "d").exists()

    @pytest.mark.parametrize(
        ("header", "reason"),
        [
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 30), }", "its header names"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 30), }", "is it truncated?"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 30), }", "its header names"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -30), }", "expected [records, features…]"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 30", "not a NumPy array file"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, '30'), }", "not a NumPy array file"),
            ("{'descr': '>f4', 'fortran_order': False, 'shape': (2, 30), }", "dtype is >f4"),
            ("(" * 9000, "not a NumPy array file"),
            ("-" * 9000 + "1", "not a NumPy array file"),
            ("\0", "not a NumPy array file"),
            ("", "not a NumPy array file"),
        ],
    )
    def test_npy_header_that_lies(self, cli: Cli, keygen: Owned, tmp_path: Path, header: str, reason: str) -> None:
        """Two records of values below a header that says something else."""
        path = tmp_path / "r.npy"
        text = header.encode() + b"\n"
        path.write_bytes(b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + bytes(2 * 30 * 4))
        ran = cli("encrypt", "--key", keygen.key_file, "--records", path, "--out", tmp_path / "d")
        assert (ran.code, ran.out) == (1, "")
        assert reason in ran.err
        assert ran.err.count("\n") == 1
        assert "internal fault" not in ran.err

    def test_npy_by_columns_is_the_same(self, cli: Cli, keygen: Owned, tmp_path: Path) -> None:
        for name, records in (("c", RECORDS), ("f", np.asfortranarray(RECORDS))):
            path = npy(tmp_path / f"{name}.npy", records)
            cli.ok("encrypt", "--key", keygen.key_file, "--records", path, "--out", tmp_path / name)
        assert (tmp_path / "c").read_bytes() == (tmp_path / "f").read_bytes()

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ("a,b\n1,1_000\n", "record 0 (line 2), column 'b': is not a number"),
            ("a,b\n1,\u0661\n", "record 0 (line 2), column 'b': is not a number"),
            ("a,b\n1,2\n3,secret\n", "record 1 (line 3), column 'b': is not a number"),
            ("a,b\n1,\n", "record 0 (line 2), column 'b': is empty"),
            ("a,b\n1,2\n\n3\n", "record 1 (line 4) has 1 values"),
            ("a,b\n1,nan\n", "record 0, column 'b': NaN"),
            ("1.5,2.5\n1,2\n", "no header"),
            ("a,a\n1,2\n", "names column 'a' twice"),
            ("a;b\n1;2\n", "separates columns by ';'"),
            ("a,b\n", "no records"),
            ("", "is empty"),
            ('a,b\n"1,2\n', "has 1 values"),
        ],
    )
    def test_csv_names_place_and_not_value(
        self, cli: Cli, keygen: Owned, tmp_path: Path, content: str, reason: str
    ) -> None:
        path = tmp_path / "records.csv"
        path.write_text(content)
        ran = cli("encrypt", "--key", keygen.key_file, "--records", path, "--out", tmp_path / "d")
        assert ran.code == 1
        assert reason in ran.err
        assert "secret" not in ran.err

    def test_csv_of_another_model(self, cli: Cli, keygen: Owned, tmp_path: Path) -> None:
        names = list(zoo.load_manifest("breast_cancer").feature_names)
        for columns, reason in ((names[:-1], "lacks column"), ([*names, "diagnosis"], "'diagnosis'")):
            path = raw_csv(tmp_path / "r.csv", columns, [[1.0] * len(columns)])
            ran = cli(
                "encrypt", "--key", keygen.key_file, "--records", path, "--manifest", MANIFEST, "--out", tmp_path / "d"
            )
            assert ran.code == 1
            assert reason in ran.err

    def test_columns_that_are_no_features_are_left_out_by_name(self, cli: Cli, keygen: Owned, tmp_path: Path) -> None:
        names = list(zoo.load_manifest("breast_cancer").feature_names)
        path = raw_csv(tmp_path / "r.csv", ["patient id", *names, "b"], [["P-1", *[1.0] * 30, "x"]])
        arguments = ("encrypt", "--key", keygen.key_file, "--records", path, "--manifest", MANIFEST)
        assert "--drop 'patient id' leaves it out" in cli(*arguments, "--out", tmp_path / "d").err
        drops = ("--drop", "patient id", "--drop", "b")
        assert "no column 'c' to leave out" in cli(*arguments, *drops, "--drop", "c", "--out", tmp_path / "d").err
        assert "1 records of 30 values" in cli.ok(*arguments, *drops, "--out", tmp_path / "d").out
        records = npy(tmp_path / "r.npy", RECORDS)
        ran = cli("encrypt", "--key", keygen.key_file, "--records", records, *drops, "--out", tmp_path / "e")
        assert "have no names" in ran.err

    def test_wrong_passphrase_and_missing_files(
        self, cli: Cli, keygen: Owned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        records = npy(tmp_path / "r.npy", RECORDS)
        out = tmp_path / "d"
        for arguments, reason in (
            (("--key", tmp_path / "none", "--records", records), "none"),
            (("--key", keygen.key_file, "--records", tmp_path / "none.npy"), "no records file"),
            (("--key", keygen.model_file, "--records", records), "other users"),
        ):
            ran = cli("encrypt", *arguments, "--out", out)
            assert ran.code == 1
            assert reason in ran.err
        monkeypatch.setenv("REXIS_PASSPHRASE", "not this one")
        ran = cli("encrypt", "--key", keygen.key_file, "--records", records, "--out", out)
        assert ran.code == 1
        assert "passphrase is wrong" in ran.err
        assert "not this one" not in ran.err
        assert not out.exists()


class TestDecrypt:
    @pytest.fixture(params=[Tier.COMMIT, Tier.ZK])
    def done(self, request: pytest.FixtureRequest, cli: Cli, keygen: Owned, tmp_path: Path) -> Path:
        """What `fetch` leaves, and the dataset."""
        tier: Tier = request.param
        cli.ok(
            "encrypt", "--key", keygen.key_file, "--records", npy(tmp_path / "r.npy", RECORDS), "--out", tmp_path / "d"
        )
        blob = (tmp_path / "d").read_bytes()
        dataset = Dataset.from_bytes(blob)
        floats = run_model(keygen.model_file, dataset.records)
        outputs = floats if tier == Tier.COMMIT else quantise(floats, CIRCUIT.output_scale)
        (tmp_path / "outputs.safetensors").write_bytes(pack_outputs(outputs))
        domain = Domain(chain_id=1, verifying_contract=ZERO_ADDRESS)
        made = certificate(job(tier, keygen.key(), dataset, blob, shard=100), domain, dataset, outputs)
        (tmp_path / "certificate.json").write_bytes(made.to_json())
        return tmp_path

    def decrypt(self, cli: Cli, keygen: Owned, done: Path, *more: object) -> tuple[int, str, str]:
        ran = cli("decrypt", "--key", keygen.key_file, "--outputs", done / "outputs.safetensors", *more)
        return ran.code, ran.out, ran.err

    def test_round_trip(self, cli: Cli, keygen: Owned, done: Path) -> None:
        code, out, err = self.decrypt(cli, keygen, done, "--dataset", done / "d", "--out", done / "p.npy")
        assert (code, err) == (0, "")
        assert "as certified" in out
        expected = run_model(MODEL, RECORDS)
        np.testing.assert_allclose(np.load(done / "p.npy"), expected, atol=2e-3)
        assert (done / "p.npy").stat().st_mode & 0o777 == 0o600

    def test_csv_with_class_names(self, cli: Cli, keygen: Owned, done: Path) -> None:
        more = ("--dataset", done / "d", "--manifest", MANIFEST, "--out", done / "p.csv")
        assert self.decrypt(cli, keygen, done, *more)[0] == 0
        with (done / "p.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["record", "malignant", "benign", "prediction"]
        expected = np.asarray(["malignant", "benign"])[run_model(MODEL, RECORDS).argmax(axis=1)]
        assert [row["prediction"] for row in rows] == list(expected)
        assert [row["record"] for row in rows] == [str(i) for i in range(143)]

    def test_one_changed_output_is_found(self, cli: Cli, keygen: Owned, done: Path) -> None:
        path = done / "outputs.safetensors"
        data = bytearray(path.read_bytes())
        data[-3] ^= 1
        path.write_bytes(bytes(data))
        code, _, err = self.decrypt(cli, keygen, done, "--dataset", done / "d", "--out", done / "p.npy")
        assert code == 1
        assert "outputs of records 100 … 142 are not the certified ones" in err
        assert not (done / "p.npy").exists()
        code, out, _ = self.decrypt(cli, keygen, done, "--trust-outputs", "--out", done / "p.npy")
        assert code == 0
        assert "NOT compared" in out

    def test_another_dataset(self, cli: Cli, keygen: Owned, done: Path) -> None:
        other = Dataset(RECORDS, np.zeros((143, 32), np.uint8))
        (done / "other").write_bytes(other.to_bytes())
        code, _, err = self.decrypt(cli, keygen, done, "--dataset", done / "other", "--out", done / "p.npy")
        assert code == 1
        assert "the dataset has digest" in err

    def test_key_of_another_model(self, cli: Cli, done: Path) -> None:
        cli.ok("keygen", "--model", MODEL, "--key", done / "k2", "--out", done / "m2", "--epoch", "3")
        ran = cli(
            "decrypt", "--key", done / "k2", "--outputs", done / "outputs.safetensors", "--dataset", done / "d",
            "--out", done / "p.npy",
        )  # fmt: skip
        assert ran.code == 1
        assert "belongs to encrypted model" in ran.err

    def test_usage(self, cli: Cli, keygen: Owned, done: Path) -> None:
        code, _, err = self.decrypt(cli, keygen, done, "--out", done / "p.npy")
        assert code == 2
        assert "--trust-outputs" in err

    def test_truncated(self, cli: Cli, keygen: Owned, done: Path) -> None:
        path = done / "outputs.safetensors"
        path.write_bytes(path.read_bytes()[:-10])
        code, _, err = self.decrypt(cli, keygen, done, "--dataset", done / "d", "--out", done / "p.npy")
        assert code == 1
        assert "not safetensors" in err
