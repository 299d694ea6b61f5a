"""Where the zoo's data comes from: packages that everybody can install, nothing downloaded.

Each loader returns raw features ``float64 [n, d]``, labels ``int64 [n]`` and the names of both. No torch here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Dataset:
    """Raw records (``float64 [n, d]``, in the source's units), labels (``int64 [n]``) and their names."""

    records: NDArray[np.float64]
    labels: NDArray[np.int64]
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]


def breast_cancer() -> Dataset:
    """Wisconsin Diagnostic Breast Cancer: 569 fine-needle aspirates, 30 nuclear measurements; 0 is malignant.

    Source: W. N. Street, W. H. Wolberg, O. L. Mangasarian, 1993, UCI Machine Learning Repository, as shipped in
    scikit-learn.
    """
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    return Dataset(
        records=np.asarray(data.data, dtype=np.float64),
        labels=np.asarray(data.target, dtype=np.int64),
        feature_names=tuple(str(name) for name in data.feature_names),
        class_names=tuple(str(name) for name in data.target_names),
    )


# Keyed by the `data.source` of a manifest.
DATASETS: dict[str, Callable[[], Dataset]] = {"sklearn.datasets.load_breast_cancer": breast_cancer}
