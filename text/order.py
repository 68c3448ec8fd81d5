"""A pseudo-random order of any number of items, without storing it."""

import numpy as np

from text.grammar import mix64


def shuffled(start: int, size: int, n: int, key: list[int]) -> np.ndarray:
    """Items start ... start+size of a seeded pseudo-random order of range(n), without storing it.

    A 4-round Feistel network (Luby & Rackoff 1988) on the next even power of two, walked
    until it lands below n.
    """
    half = max(1, (int(n - 1).bit_length() + 1) // 2)
    keys = np.random.default_rng([*key, 0x5F]).integers(1 << 62, size=4).astype(np.uint64)
    mask = np.uint64((1 << half) - 1)

    def permute(x):
        left, right = x >> np.uint64(half), x & mask
        for k in keys:
            left, right = right, left ^ (mix64(right ^ k) & mask)
        return left << np.uint64(half) | right

    out = permute(np.arange(start, min(start + size, n), dtype=np.uint64))
    while (out >= n).any():
        out = np.where(out >= n, permute(out), out)
    return out.astype(np.int64)
