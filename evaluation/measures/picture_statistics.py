"""Statistics of any pictures, from their pixels: colors, regions, edges, foreground and background.

Pictures are (n, 3, 64, 64) in [0, 1]; every function returns one value for each, (n,), float64.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse

from evaluation.measures.measured_scene import background_colors, find_objects, to_lab
from imaging.color import srgb_to_lab

LEVELS = 8  # of a channel, when colors are counted
EDGE = 10.0  # CIE76 between neighboring pixels: from here on there is an edge
LEAST_REGION = 8  # px; smaller ones are not counted


def number_of_colors(pictures: torch.Tensor) -> np.ndarray:
    """Effective number of colors: exp of the entropy of a histogram of 8x8x8 sRGB bins; 1 ... 512."""
    levels = (pictures * LEVELS).long().clamp(max=LEVELS - 1)  # (n, 3, 64, 64)
    bins = (levels[:, 0] * LEVELS + levels[:, 1]) * LEVELS + levels[:, 2]
    out = []
    for one in bins.flatten(1):
        share = torch.bincount(one).double() / one.numel()
        share = share[share > 0]
        out.append(float(torch.exp(-(share * share.log()).sum())))
    return np.array(out)


def differences(pictures: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """CIE76 of each pixel and its right neighbor, (n, 64, 63), and its lower neighbor, (n, 63, 64)."""
    lab = srgb_to_lab(pictures.movedim(1, -1)).numpy().astype(np.float64)  # (n, 64, 64, 3)
    return tuple(np.linalg.norm(np.diff(lab, axis=axis), axis=-1) for axis in (2, 1))


def edge_density(pictures: torch.Tensor) -> np.ndarray:
    """Share of neighboring pixels with an edge between them, in [0, 1]."""
    right, down = differences(pictures)
    edges = [(d > EDGE).reshape(len(pictures), -1) for d in (right, down)]
    return np.concatenate(edges, 1).mean(1)


def number_of_regions(pictures: torch.Tensor) -> np.ndarray:
    """Number of regions of at least 8 px; neighboring pixels without an edge between them are of one region."""
    right, down = differences(pictures)
    number = np.arange(pictures.shape[2] * pictures.shape[3]).reshape(pictures.shape[2:])
    out = []
    for r, d in zip(right <= EDGE, down <= EDGE):
        rows = np.concatenate([number[:, :-1][r], number[:-1][d]])
        columns = np.concatenate([number[:, 1:][r], number[1:][d]])
        graph = sparse.coo_matrix((np.ones(len(rows)), (rows, columns)), (number.size,) * 2)
        _, region = sparse.csgraph.connected_components(graph, directed=False)
        out.append((np.bincount(region) >= LEAST_REGION).sum())
    return np.array(out, np.float64)


def foreground_and_background(pictures: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-> (share of pixels that differ from the colors of the border, in [0, 1]; number of objects that they form; CIE76
    of their mean color and the background's, 0 without objects). As `measured_scene` finds objects."""
    share, count, contrast = [], [], []
    for picture in pictures:
        rgb = np.moveaxis(picture.numpy().astype(np.float64), 0, -1)
        lab = to_lab(rgb)
        objects = find_objects(lab, to_lab(background_colors(rgb, lab)))
        foreground = np.any([np.zeros(rgb.shape[:2], bool), *objects], 0)
        share.append(foreground.mean())
        count.append(len(objects))
        both = foreground.any() and not foreground.all()
        contrast.append(np.linalg.norm(lab[foreground].mean(0) - lab[~foreground].mean(0)) if both else 0.0)
    return np.array(share), np.array(count, np.float64), np.array(contrast)
