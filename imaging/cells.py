"""The grid of cells in which glyphs stand: scene decoder and captioner share it."""

import math

import torch


def grid_shape(n_cells: int) -> tuple[int, int]:
    """Rows and columns of a grid of n_cells cells, as square as can be.

    >>> grid_shape(25), grid_shape(30)
    ((5, 5), (5, 6))
    """
    rows = math.isqrt(n_cells)
    return rows, -(-n_cells // rows)


def cell_centers(n_cells: int) -> torch.Tensor:
    """Centers of the cells in reading order: (n_cells, 2), x and y in (0, 1) of the picture."""
    rows, columns = grid_shape(n_cells)
    y, x = torch.meshgrid((torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij")
    return torch.stack([x, y], -1).flatten(0, 1)[:n_cells]
