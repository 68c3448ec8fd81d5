"""Features of pictures and distances of sentences, for correlations between the two."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans

import metrics
from channel import blur


def small_pixels(pictures):
    """16x16 pixels after a 1 px blur: (n, 3, 64, 64) in [0, 1] -> (n, 768) in [0, 1]."""
    return F.avg_pool2d(blur(pictures, 1.0), 4).flatten(1).numpy()


def random_features(pictures, seed=0):
    """Two layers of fixed random convolutions, pooled to 4x4: (n, 3, 64, 64) in [0, 1] -> (n, 512) >= 0. The same for every
    model."""
    rng = torch.Generator().manual_seed(seed)
    x = pictures * 2 - 1
    for a, b, stride in ((3, 16, 2), (16, 32, 2)):
        x = torch.relu(
            F.conv2d(x, torch.randn(b, a, 5, 5, generator=rng) / math.sqrt(25 * a), stride=stride, padding=2)
        )
    return F.adaptive_avg_pool2d(x, 4).flatten(1).numpy()


FEATURES = {
    "pixels": ("pixels", small_pixels),
    "random_features": ("random features", random_features),
}  # id: (label, function)


def symbols_of(pictures, seed, kinds=24):
    """A picture as a message: 8x8 places, each with one of `kinds` symbols found by k-means over all places'
    2x2 pixels: (n, 3, 64, 64) -> (n, 64) integers in [0, kinds)."""
    cells = F.unfold(F.avg_pool2d(pictures, 4), 2, stride=2).transpose(1, 2).reshape(-1, 12).numpy()  # (n 64, 12)
    rng = np.random.default_rng(seed)
    examples = cells[rng.permutation(len(cells))[:5000]] + rng.normal(0, 1e-4, (min(5000, len(cells)), 12))
    clusters = KMeans(min(kinds, len(examples)), n_init=1, random_state=seed).fit(examples.astype(np.float32))
    return clusters.predict(cells.astype(np.float32)).reshape(len(pictures), -1)


def edit_distances(sentences):
    """Word edit distance of all pairs of n sentences -> condensed (n (n - 1) / 2,)."""
    rows = [s.split() for s in sentences]
    pairs = [(i, j) for i in range(len(rows)) for j in range(i + 1, len(rows))]
    return np.array([metrics.edit_distance(rows[i], rows[j]) for i, j in pairs], float)
