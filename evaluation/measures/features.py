"""Features of pictures and distances of sentences, for correlations between the two."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans

import metrics
from channel import blur

EXAMPLES = 5000  # cells that k-means is fitted to


def small_pixels(pictures: torch.Tensor) -> np.ndarray:
    """16x16 pixels after a 1 px blur: (n, 3, 64, 64) in [0, 1] -> (n, 768) in [0, 1]."""
    return F.avg_pool2d(blur(pictures, 1.0), 4).flatten(1).numpy()


def random_features(pictures: torch.Tensor, seed: int = 0) -> np.ndarray:
    """Two layers of fixed random convolutions, pooled to 4x4: (n, 3, 64, 64) in [0, 1] -> (n, 512) >= 0."""
    rng = torch.Generator().manual_seed(seed)
    x = pictures * 2 - 1
    for a, b in ((3, 16), (16, 32)):
        weights = torch.randn(b, a, 5, 5, generator=rng) / math.sqrt(25 * a)
        x = torch.relu(F.conv2d(x, weights, stride=2, padding=2))
    return F.adaptive_avg_pool2d(x, 4).flatten(1).numpy()


FEATURES = {  # id: (label, function)
    "pixels": ("pixels", small_pixels),
    "random_features": ("random features", random_features),
}


def symbols_of(pictures: torch.Tensor, seed: int, n_symbols: int = 24) -> np.ndarray:
    """A picture as a message of 8x8 cells, each with one of `n_symbols` symbols, the k-means clusters of the cells'
    2x2 pixels: (n, 3, 64, 64) -> (n, 64) integers in [0, n_symbols)."""
    cells = F.unfold(F.avg_pool2d(pictures, 4), 2, stride=2).transpose(1, 2).reshape(-1, 12).numpy()  # (n 64, 12)
    rng = np.random.default_rng(seed)
    examples = cells[rng.permutation(len(cells))[:EXAMPLES]] + rng.normal(0, 1e-4, (min(EXAMPLES, len(cells)), 12))
    clusters = KMeans(min(n_symbols, len(examples)), n_init=1, random_state=seed).fit(examples.astype(np.float32))
    return clusters.predict(cells.astype(np.float32)).reshape(len(pictures), -1)


def edit_distances(sentences: list[str]) -> np.ndarray:
    """Word edit distance of all pairs of n sentences -> condensed (n (n - 1) / 2,)."""
    rows = [s.split() for s in sentences]
    pairs = [(i, j) for i in range(len(rows)) for j in range(i + 1, len(rows))]
    return np.array([metrics.edit_distance(rows[i], rows[j]) for i, j in pairs], float)
