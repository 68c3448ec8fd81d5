"""Statistics of pictures of any kind, from their pixels: colors, regions, edges, figure and ground.

Pictures are (n, 3, 64, 64) in [0, 1]; every function returns one number for each, (n,), float64.
"""

import numpy as np
import torch
from scipy import sparse

from evaluation.measures.measured_scene import find_things, ground_tones, to_lab
from imaging.color import srgb_to_lab

LEVELS = 8  # of a channel, when colors are counted
EDGE = 10.0  # CIE76 between neighboring pixels: from here on there is an edge
LEAST_REGION = 8  # px; smaller ones are not counted


def number_of_colors(pictures):
    """Effective number of colors: exp of the entropy of a histogram of 8x8x8 sRGB bins; 1 ... 512."""
    levels = (pictures * LEVELS).long().clamp(max=LEVELS - 1)  # (n, 3, 64, 64)
    bins = (levels[:, 0] * LEVELS + levels[:, 1]) * LEVELS + levels[:, 2]
    out = []
    for one in bins.flatten(1):
        share = torch.bincount(one).double() / one.numel()
        share = share[share > 0]
        out.append(float(torch.exp(-(share * share.log()).sum())))
    return np.array(out)


def differences(pictures):
    """CIE76 of each pixel and its right neighbor, (n, 64, 63), and its lower neighbor, (n, 63, 64)."""
    lab = srgb_to_lab(pictures.movedim(1, -1)).numpy().astype(np.float64)  # (n, 64, 64, 3)
    return tuple(np.linalg.norm(np.diff(lab, axis=axis), axis=-1) for axis in (2, 1))


def edge_density(pictures):
    """Share of neighboring pixels with an edge between them, in [0, 1]."""
    right, down = differences(pictures)
    edges = [(d > EDGE).reshape(len(pictures), -1) for d in (right, down)]
    return np.concatenate(edges, 1).mean(1)


def number_of_regions(pictures):
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


def figure_and_ground(pictures):
    """-> (share of pixels that are unlike the tones of the border, in [0, 1]; number of things that they make;
    CIE76 of their mean color and the ground's, 0 without things). As `evaluation/measures/measured_scene.py` finds things."""
    share, count, contrast = [], [], []
    for picture in pictures:
        rgb = np.moveaxis(picture.numpy().astype(np.float64), 0, -1)
        lab = to_lab(rgb)
        things = find_things(lab, to_lab(ground_tones(rgb, lab)))
        figure = np.any([np.zeros(rgb.shape[:2], bool), *things], 0)
        share.append(figure.mean())
        count.append(len(things))
        both = figure.any() and not figure.all()
        contrast.append(np.linalg.norm(lab[figure].mean(0) - lab[~figure].mean(0)) if both else 0.0)
    return np.array(share), np.array(count, np.float64), np.array(contrast)
