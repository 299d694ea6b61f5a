"""Where the zoo's data comes from: scikit-learn, and arrays out of other packages kept in ``models/data``.

Each loader returns records as their source has them, what to predict, and which records are held out. Nothing is
downloaded, and no torch comes in here. How a split is made is written where it is made: several modalities have only
one image, volume or recording, which is then cut into windows, and the windows of one region or time are held out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DATA_DIR = Path(__file__).parent / "data"
SEED = 20_261_101
HELD_OUT_SHARE = 0.25

Array = NDArray[Any]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Origin:
    """Where a dataset is from, who made it, under what terms, and how its held-out part was chosen."""

    source: str
    citation: str
    license: str
    split: str


@dataclass(frozen=True, eq=False)
class Dataset:
    """Records and what to predict of them.

    Attributes
    ----------
    records
        ``[n, ...]`` in the source's units, or token numbers.
    labels
        ``int64 [n]``, a place in `class_names`; or ``float64 [n, targets]`` where `target_names` is given.
    held_out
        ``bool [n]``: the records that training and model selection never see.
    feature_names
        Of a record's last axis, where that is a table's columns.
    vocabulary
        What each token number means, where the records are tokens.
    """

    origin: Origin
    records: Array
    labels: Array
    held_out: Mask
    feature_names: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    target_names: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()


def breast_cancer() -> Dataset:
    """Wisconsin Diagnostic Breast Cancer: 569 fine-needle aspirates, 30 nuclear measurements; 0 is malignant."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    labels = np.asarray(data.target, dtype=np.int64)
    origin = Origin(
        source="sklearn.datasets.load_breast_cancer",
        citation=(
            "W. Wolberg, O. Mangasarian, N. Street, W. Street: Breast Cancer Wisconsin (Diagnostic), "
            "UCI Machine Learning Repository, 1993, doi:10.24432/C5DW2B"
        ),
        license="CC BY 4.0",
        split=f"stratified, {HELD_OUT_SHARE:.0%} held out, random_state {SEED}",
    )
    return Dataset(
        origin=origin,
        records=np.asarray(data.data, dtype=np.float64),
        labels=labels,
        held_out=_stratified(labels),
        feature_names=tuple(str(name) for name in data.feature_names),
        class_names=tuple(str(name) for name in data.target_names),
    )


def diabetes() -> Dataset:
    """442 diabetes patients: age, sex, body mass index, blood pressure, six sera; progression one year on (25-346)."""
    from sklearn.datasets import load_diabetes

    data = load_diabetes(scaled=False)
    held_out = np.zeros(len(data.target), dtype=bool)
    held_out[np.random.default_rng(SEED).permutation(len(held_out))[: round(HELD_OUT_SHARE * len(held_out))]] = True
    origin = Origin(
        source="sklearn.datasets.load_diabetes(scaled=False)",
        citation="B. Efron, T. Hastie, I. Johnstone, R. Tibshirani: Least angle regression, Ann. Statist. 32(2), 2004",
        license="shipped in scikit-learn (BSD-3-Clause); the authors published it without terms",
        split=f"random, {HELD_OUT_SHARE:.0%} of the patients held out, seed {SEED}",
    )
    return Dataset(
        origin=origin,
        records=np.asarray(data.data, dtype=np.float64),
        labels=np.asarray(data.target, dtype=np.float64)[:, None],
        held_out=held_out,
        feature_names=tuple(str(name) for name in data.feature_names),
        target_names=("disease_progression",),
    )


PEPTIDE_VOCABULARY = ("<pad>", *"ACDEFGHIKLMNPQRSTVWY", "<cls>")


def peptide() -> Dataset:
    """4373 peptides of at most 50 residues as tokens ``[51]``: ``<cls>``, the residues, ``<pad>``; 1 kills microbes."""
    data = _load("peptides")
    residues = data["tokens"].astype(np.int64) + 1
    start = np.full((len(residues), 1), PEPTIDE_VOCABULARY.index("<cls>"))
    origin = Origin(
        source="modlamp/data/AMPvsUniProt.csv (modlamp 4.3.3), peptides of at most 50 residues, duplicates dropped",
        citation=(
            "A. Müller, G. Gabernet, J. Hiss, G. Schneider: modlAMP: Python for antimicrobial peptides, "
            "Bioinformatics 33(17), 2017; sequences from APD3 (January 2016) and UniProt"
        ),
        license="BSD-3-Clause (modlamp); UniProt CC BY 4.0",
        split=(
            f"about {HELD_OUT_SHARE:.0%} held out by family: peptides whose 3-mer sets overlap by a Jaccard index of "
            "0.2 or more are linked, and linked families stay on one side"
        ),
    )
    return Dataset(
        origin=origin,
        records=np.concatenate([start, residues], axis=1).astype(np.float32),
        labels=data["antimicrobial"].astype(np.int64),
        held_out=_families(residues),
        class_names=("other", "antimicrobial"),
        vocabulary=PEPTIDE_VOCABULARY,
    )


def dna() -> Dataset:
    """All 32,768 9-mers NNN|GYNNNN as tokens ``[9]``; 1 is a 5' splice site somewhere in the annotated human genome."""
    uses = _load("splice_sites")["uses"]
    tokens = np.stack(np.unravel_index(np.arange(len(uses)), (4,) * 9), axis=1)
    tokens = tokens[(tokens[:, 3] == 2) & ((tokens[:, 4] == 1) | (tokens[:, 4] == 3))]  # G, then C or U
    labels = (uses[np.ravel_multi_index(tuple(tokens.T), (4,) * 9)] > 0).astype(np.int64)
    origin = Origin(
        source="logomaker/examples/datafiles/ss_sequences.txt (logomaker 0.8.7) and every 9-mer that it does not list",
        citation=(
            "A. Tareen, J. Kinney: Logomaker: beautiful sequence logos in Python, Bioinformatics 36(7), 2020; sites of "
            "hg38 from A. Frankish et al.: GENCODE reference annotation, Nucl. Acids Res. 47(D1), 2019"
        ),
        license="MIT (logomaker); GENCODE is open without restriction",
        split=f"stratified, {HELD_OUT_SHARE:.0%} of the distinct 9-mers held out, random_state {SEED}",
    )
    return Dataset(
        origin=origin,
        records=tokens.astype(np.float32),
        labels=labels,
        held_out=_stratified(labels),
        class_names=("unused", "splice_site"),
        vocabulary=tuple("ACGU"),
    )


ECG_RATE = 360  # Hz, of MIT-BIH; the resting ECG is resampled to it, and PyWavelets' sample is taken to have it
ECG_WINDOW = 320  # samples, 0.89 s
ECG_STEP = 3  # samples from one window to the next


def ecg() -> Dataset:
    """Windows ``[1, 320]`` of three ECGs; the class is the phase of the heartbeat at the window's middle.

    The labels come from the signal: R peaks are found by height, and the phase from the time to the nearest ones (QRS
    within 50 ms, ST-T up to 400 ms after, P within 220 ms before, else rest). Each recording is scaled by the median
    and the standard deviation of its first 70 %, as an amplifier's gain would be set.
    """
    from scipy.signal import find_peaks

    raw = _load("ecg")
    time = np.arange(0, len(raw["resting"]) / 1000, 1 / ECG_RATE)
    recordings = {
        "mitdb": raw["mitdb"],
        "resting": np.interp(time, np.arange(len(raw["resting"])) / 1000, raw["resting"]),
        "pywavelets": raw["pywavelets"],
    }
    windows, labels, held_out = [], [], []
    for name, signal in recordings.items():
        cut = round(0.7 * len(signal))
        scaled = (signal - np.median(signal[:cut])) / signal[:cut].std()
        peaks, _ = find_peaks(scaled, height=0.5 * scaled[:cut].max(), distance=ECG_RATE // 3)
        first, last = max(int(peaks[0]), ECG_WINDOW // 2), min(int(peaks[-1]), len(signal) - ECG_WINDOW // 2)
        for middle in range(first, last, ECG_STEP):
            start, stop = middle - ECG_WINDOW // 2, middle + ECG_WINDOW // 2
            if name != "pywavelets" and start < cut < stop:
                continue  # no window reaches over the cut
            next_peak = int(np.searchsorted(peaks, middle, side="right"))
            windows.append(scaled[start:stop])
            labels.append(_phase((middle - peaks[next_peak - 1]) / ECG_RATE, (peaks[next_peak] - middle) / ECG_RATE))
            held_out.append(name == "pywavelets" or start >= cut)
    origin = Origin(
        source=(
            "sktime/datasets/data/mitdb/mitdb.csv (sktime 1.2.0), pydicom/data/test_files/waveform_ecg.dcm lead II "
            "(pydicom 3.0.2), pywt/data/ecg.npz (PyWavelets 1.9.0); phases derived from the R peaks of the signal"
        ),
        citation="G. Moody, R. Mark: The impact of the MIT-BIH Arrhythmia Database, IEEE Eng. Med. Biol. 20(3), 2001",
        license="BSD-3-Clause (sktime), MIT (pydicom, PyWavelets); MIT-BIH is ODC-By 1.0",
        split=(
            "three recordings, by their looks of three people, cut into overlapping windows: held out are the last 30% "
            "in time of mitdb (21 s) and of the resting ECG (10 s), and all of PyWavelets' recording (3 s)"
        ),
    )
    return Dataset(
        origin=origin,
        records=np.stack(windows).astype(np.float32)[:, None],
        labels=np.array(labels, dtype=np.int64),
        held_out=np.array(held_out),
        class_names=("qrs", "st_t", "p_pr", "rest"),
    )


def _phase(since: float, until: float) -> int:
    """Place of the phase in the class names, by the seconds since the last R peak and until the next."""
    if min(since, until) <= 0.05:
        return 0
    if since <= 0.40:
        return 1
    return 2 if until <= 0.22 else 3


MNI152 = (
    "V. Fonov et al.: Unbiased average age-appropriate atlases for pediatric studies, NeuroImage 54(1), 2011; "
    "D. Collins et al.: ANIMAL+INSECT, IPMI 1999"
)
MNI152_LICENSE = "free to use, copy, modify and distribute with the notice in models/data/README.md (McGill University)"
POSTERIOR = 40  # planes of 2 mm, counted from the back of the volume


def vit() -> Dataset:
    """Sagittal 48 mm windows ``[1, 24, 24]`` of a T1 brain template; the class is the tissue at the window's middle."""
    volumes = _load("mni152")
    tissue = _tissue(volumes)
    side, rng = 24, np.random.default_rng(SEED)
    padded = np.pad(volumes["t1"], ((0, 0), (0, 0), (side // 2, side // 2)))
    centres, held_out = _sample_brain(volumes["t1"], side, training=5000, held_out=2000, rng=rng)
    windows = [padded[x, y - side // 2 : y + side // 2, z : z + side] for x, y, z in centres]
    origin = Origin(
        source="mni_icbm152_{t1,gm,wm}_tal_nlin_sym_09a (nilearn 0.14.1), left half at 2 mm, likeliest tissue",
        citation=MNI152,
        license=MNI152_LICENSE,
        split="one volume cut into windows: those wholly in the rearmost 80 mm are held out, none reaches over the cut",
    )
    return Dataset(
        origin=origin,
        records=(np.stack(windows) / 255).astype(np.float32)[:, None],
        labels=tissue[tuple(centres.T)],
        held_out=held_out,
        class_names=("fluid_or_other", "grey_matter", "white_matter"),
    )


def volume() -> Dataset:
    """Cubes ``[1, 12, 12, 12]`` (24 mm) of a T1 brain template; the targets are their grey and white matter shares."""
    volumes = _load("mni152")
    side, rng = 12, np.random.default_rng(SEED)
    centres, held_out = _sample_brain(volumes["t1"], side, training=3000, held_out=1200, rng=rng)
    pad = ((side // 2, side // 2), (0, 0), (side // 2, side // 2))

    def cubes(name: str) -> Array:
        padded = np.pad(volumes[name], pad)
        cut = [padded[x : x + side, y - side // 2 : y + side // 2, z : z + side] for x, y, z in centres]
        return np.stack(cut) / 255

    origin = Origin(
        source="mni_icbm152_{t1,gm,wm}_tal_nlin_sym_09a (nilearn 0.14.1), left half at 2 mm",
        citation=MNI152,
        license=MNI152_LICENSE,
        split="one volume cut into cubes: those wholly in the rearmost 80 mm are held out, none reaches over the cut",
    )
    return Dataset(
        origin=origin,
        records=cubes("t1").astype(np.float32)[:, None],
        labels=np.stack([cubes(name).mean(axis=(1, 2, 3)) for name in ("gm", "wm")], axis=1),
        held_out=held_out,
        target_names=("grey_matter_share", "white_matter_share"),
    )


def patch_cnn() -> Dataset:
    """Windows ``[1, 24, 24]`` of one fluorescence micrograph; the class is what its annotators drew at the middle."""
    data = _load("nuclei")
    image, nucleus = data["image"], data["nucleus"]
    side, cut, rim = 24, 352, 2
    shifted = [np.roll(nucleus, (dy, dx), (0, 1)) for dy in range(-rim, rim + 1) for dx in range(-rim, rim + 1)]
    inside = (nucleus > 0) & np.all([other == nucleus for other in shifted], axis=0)
    classes = np.where(nucleus == 0, 0, np.where(inside, 2, 1))
    rng = np.random.default_rng(SEED)
    half = side // 2
    centres, held_out = [], []
    for left, right, per_class in ((half, cut - half, 1500), (cut + half, 512 - half, 500)):
        for label in range(3):
            places = np.argwhere(classes[half : 512 - half, left:right] == label) + np.array([half, left])
            centres.append(rng.permutation(places)[:per_class])
            held_out += [left > cut] * len(centres[-1])
    where = np.concatenate(centres)
    windows = [image[y - half : y + half, x - half : x + half] for y, x in where]
    origin = Origin(
        source="stardist/data/images/{img2d,mask2d}.tif (stardist 0.9.2)",
        citation="J. Caicedo et al.: Nucleus segmentation across imaging experiments, Nature Methods 16, 2019",
        license="BSD-3-Clause (stardist); the challenge's images (BBBC038) are CC0",
        split=(
            f"one micrograph cut into windows, equally many per class: those wholly right of column {cut} of 512 are "
            "held out, none reaches over the cut"
        ),
    )
    return Dataset(
        origin=origin,
        records=(np.stack(windows) / 255).astype(np.float32)[:, None],
        labels=classes[tuple(where.T)].astype(np.int64),
        held_out=np.array(held_out),
        class_names=("background", "rim_of_nucleus", "inside_nucleus"),
    )


def omics() -> Dataset:
    """700 blood cells, each with its nine nearest: ``[10 cells, 10 weights + 64 genes]``; the first cell's type.

    The weights are those of the neighbourhood graph among the ten, with each cell itself at 1, and add up to 1 a row.
    """
    data = _load("pbmc")
    weights = data["weights"].astype(np.float64) + np.eye(data["weights"].shape[1])
    weights /= weights.sum(axis=2, keepdims=True)
    labels = data["cell_type"].astype(np.int64)
    origin = Origin(
        source="scanpy/datasets/10x_pbmc68k_reduced.h5ad (scanpy 1.11.5), the 64 most dispersed genes and its graph",
        citation=(
            "G. Zheng et al.: Massively parallel digital transcriptional profiling of single cells, Nature Comm. 8, "
            "2017; F. Wolf et al.: SCANPY, Genome Biology 19, 2018"
        ),
        license="BSD-3-Clause (scanpy); 10x Genomics PBMC 68k, CC BY 4.0",
        split=(
            f"stratified, {HELD_OUT_SHARE:.0%} of the cells held out, random_state {SEED}; one donor, and a held-out "
            "cell's neighbours (expression, never types) may be training cells"
        ),
    )
    return Dataset(
        origin=origin,
        records=np.concatenate([weights, data["expression"][data["neighbourhood"]]], axis=2).astype(np.float32),
        labels=labels,
        held_out=_stratified(labels),
        feature_names=(*(f"weight_{place}" for place in range(weights.shape[1])), *data["genes"].tolist()),
        class_names=tuple(data["cell_types"].tolist()),
    )


def _load(name: str) -> dict[str, Array]:
    with np.load(DATA_DIR / f"{name}.npz") as file:
        return dict(file)


def _stratified(labels: Array) -> Mask:
    from sklearn.model_selection import train_test_split

    _, chosen = train_test_split(np.arange(len(labels)), test_size=HELD_OUT_SHARE, stratify=labels, random_state=SEED)
    held_out = np.zeros(len(labels), dtype=bool)
    held_out[chosen] = True
    return held_out


def _families(residues: Array, k: int = 3, overlap: float = 0.2) -> Mask:
    """Hold whole families out: connected components of ``Jaccard(k-mers) >= overlap``; ``residues`` 0-padded."""
    from scipy.sparse import coo_array, csr_array
    from scipy.sparse.csgraph import connected_components

    letters = int(residues.max()) + 1
    rows, kmers = [], []
    for place in range(residues.shape[1] - k + 1):
        row = np.flatnonzero(residues[:, place + k - 1])
        rows.append(row)
        kmers.append(np.ravel_multi_index(tuple(residues[row, place : place + k].T), (letters,) * k))
    where = (np.concatenate(rows), np.concatenate(kmers))
    present = csr_array((np.ones(len(where[0])), where), shape=(len(residues), letters**k))
    present.data[:] = 1
    sizes = present.sum(axis=1)
    shared = coo_array(present @ present.T)
    linked = shared.data >= overlap * (sizes[shared.row] + sizes[shared.col] - shared.data)
    edges = coo_array((np.ones(linked.sum()), (shared.row[linked], shared.col[linked])), shape=shared.shape)
    count, family = connected_components(edges, directed=False)
    order = np.random.default_rng(SEED).permutation(count)
    running = np.cumsum(np.bincount(family)[order])
    chosen = order[running <= HELD_OUT_SHARE * len(residues)]
    held_out: Mask = np.isin(family, chosen)
    return held_out


def _tissue(volumes: dict[str, Array]) -> NDArray[np.int64]:
    grey, white = (volumes[name].astype(np.int64) for name in ("gm", "wm"))
    likeliest: NDArray[np.int64] = np.argmax([255 - grey - white, grey, white], axis=0)
    return likeliest


def _sample_brain(
    t1: Array, side: int, *, training: int, held_out: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], Mask]:
    """Brain voxels ``[n, 3]`` whose windows of `side` lie wholly behind :data:`POSTERIOR`, or wholly before it."""
    half = side // 2
    places = np.argwhere(t1 > 0)
    plane = places[:, 1]
    before = places[(plane >= POSTERIOR + half) & (plane <= t1.shape[1] - half)]
    behind = places[(plane >= half) & (plane <= POSTERIOR - half)]
    chosen = [rng.permutation(before)[:training], rng.permutation(behind)[:held_out]]
    return np.concatenate(chosen), np.repeat([False, True], [len(part) for part in chosen])


# Keyed by the name of the zoo's model.
DATASETS: dict[str, Callable[[], Dataset]] = {
    load.__name__: load for load in (breast_cancer, diabetes, dna, ecg, omics, patch_cnn, peptide, vit, volume)
}
