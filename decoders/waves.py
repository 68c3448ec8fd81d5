"""Closed curves as a radius that varies with the angle: a sum of waves of a few orders (Zahn & Roskies 1972)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn
from numpy.polynomial import Chebyshev, Polynomial


def polynomial(coefficients: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Horner's rule: coefficients (..., n), lowest power first, x (..., m) -> sum_i coefficients_i x^i, (..., m)."""
    *lower, total = coefficients.unsqueeze(-1).unbind(-2)
    for c in reversed(lower):
        total = torch.addcmul(c, total, x)
    return total


class Waves(nn.Module):
    """A sum of waves of some orders, each the number of lobes, computed from the cosine and sine of the angle."""

    cosines: torch.Tensor  # (orders, powers)
    sines: torch.Tensor

    def __init__(self, orders: Sequence[int]) -> None:
        super().__init__()
        cosines = [Chebyshev.basis(n) for n in orders]  # cos(n a), a polynomial in cos(a)
        sines = [p.deriv() / p.degree() for p in cosines]  # sin(n a) / sin(a), another
        for name, polynomials in (("cosines", cosines), ("sines", sines)):
            powers = [p.convert(kind=Polynomial).coef for p in polynomials]
            table = torch.tensor([[*p, *[0] * (len(powers[-1]) - len(p))] for p in powers], dtype=torch.float32)
            self.register_buffer(name, table, persistent=False)  # (orders, powers)

    def forward(self, order: torch.Tensor, turn: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Amplitudes (..., orders), phases as vectors (..., orders, 2), cos and sin of angles (..., n) -> (..., n)."""
        across, along = (order[..., None] * turn).unbind(-1)  # (..., orders)
        return polynomial(across @ self.cosines, cos) + sin * polynomial(along @ self.sines, cos)
