"""A finite set of codes for a part of a latent: finite scalar quantization (FSQ, Mentzer et al. 2023).

Each of a few numbers is bounded by tanh and rounded to one of its levels; the levels together are the code. The grid itself has
no weights, so that no code can die, and gradients pass the rounding as if it were not there. Everything here is float32, also
under autocast: in bf16 neighboring levels and their indices fall together, and the library only guards against CUDA's.
"""

import itertools
import math

import torch
import torch.nn as nn

AUTO = "auto"
MOST_LEVELS = (
    5  # of one number, where levels are chosen by how many words there are; finer ones are crossed at every step
)
REACHED = 0.96  # where the outermost levels lie as a share of what tanh reaches only at infinity
MOST_CODES = 1 << 16  # float32 tells their numbers apart by far


def parse_levels(text):
    """--vq_levels -> levels of each number of a code, or None for `auto`. Raises ValueError, in one line without the flag.

    >>> parse_levels("8,5,5"), parse_levels("auto")
    ((8, 5, 5), None)
    """
    if text == AUTO:
        return None
    levels = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 6 and int(part) >= 2 for part in levels):
        raise ValueError(f"is no list of whole numbers from 2, such as 8,5,5, and not {AUTO}")
    levels = tuple(int(part) for part in levels)
    if math.prod(levels) > MOST_CODES:
        raise ValueError(f"are {math.prod(levels)} codes, more than {MOST_CODES}")
    return levels


def fitting_levels(n, width=99):
    """The levels of hardly more codes than n words need: as few numbers as have at most MOST_LEVELS levels each, alike; more
    levels only where a latent has but `width` numbers.

    >>> fitting_levels(5), fitting_levels(7), fitting_levels(11), fitting_levels(2000)
    ((5,), (4, 2), (4, 3), (5, 5, 5, 4, 4))
    """
    numbers = 1
    while MOST_LEVELS**numbers < n and numbers < width:
        numbers += 1
    most = max(MOST_LEVELS, math.ceil(n ** (1 / numbers)))
    grids = itertools.combinations_with_replacement(range(most, 1, -1), numbers)
    return min((g for g in grids if math.prod(g) >= n), key=lambda g: (math.prod(g), g[0] - g[-1]))


class Quantizer(nn.Module):
    """The codes of one kind of part: latents (..., width) -> what the part's networks read (..., width), and the codes.

    The first numbers of a latent choose the code. What is read of it is a vector of its own, so that codes can look as unlike as they
    must, and a linear map of its place on the grid, through which gradients reach the latent. Raises ValueError if a latent has
    fewer numbers than a code.
    """

    def __init__(self, levels, width):
        super().__init__()
        from vector_quantize_pytorch import FSQ  # two seconds to import, and models without codes do without

        if len(levels) > width:
            raise ValueError(f"a code of {len(levels)} numbers; a part of the latent has {width}")
        self.levels, self.n_codes = tuple(levels), math.prod(levels)
        # Symmetric levels lie around 0, and two of them are allowed; without indices nothing asks the device for a number.
        self.fsq = FSQ(list(levels), preserve_symmetry=True, return_indices=False)
        self.register_buffer("highest", torch.tensor(levels) - 1, persistent=False)
        self.slope = nn.Linear(len(levels), width, bias=False)
        self.own = nn.Embedding(self.n_codes, width)  # begins as the VAE's prior

    def forward(self, z):
        """Latents (..., width) -> numbers (..., width), codes (...) int64 in [0, n_codes)."""
        with torch.autocast(z.device.type, enabled=False):
            z = z[..., : len(self.levels)].float()
            place = self.fsq(z.reshape(1, -1, len(self.levels)))[0].reshape(z.shape)  # in [-1, 1]
            codes = self.fsq.codes_to_indices(place.detach()).long()
            return self.slope(place) + self.own(codes), codes

    def numbers(self, codes):
        """Codes (...) -> numbers (..., width), as `forward` gives them."""
        place = self.fsq.indices_to_codes(codes.reshape(-1)).reshape(*codes.shape, -1)
        return self.slope(place) + self.own(codes)

    def commitment(self, z):
        """How far the latents of all words, (n, width), lie from codes of their own: the mean over words of the squared distance to
        the middle of the code that `spread` gives each -> 0-dim tensor. The commitment loss of van den Oord et al. (2017), to a code of
        one's own instead of the nearest."""
        z = z[:, : len(self.levels)].float()
        middle = spread(z.detach(), self.levels) / self.highest * 2 - 1  # in [-1, 1]
        return (z - torch.atanh(REACHED * middle)).square().sum(1).mean()

    def random_codes(self, shape, rng):
        """Codes at random, all with the same probability -> int64 of a shape."""
        device = self.own.weight.device
        return (torch.rand(shape, device=device, generator=rng) * self.n_codes).long()


def spread(points, levels):
    """Give each of n points (n, d) a place of its own on a grid of at least n places, near where it lies -> levels (n, d), int64.

    By the first number the points are shared out evenly over its levels, by the second one those of each level over the levels
    of the second, and so on, as in a k-d tree. In one dimension that is the nearest assignment there is.

    >>> spread(torch.tensor([[0.1], [5.0], [0.2]]), (3,)).T
    tensor([[0, 2, 1]])
    """
    n = len(points)
    first, size = torch.zeros_like(points[:, 0], dtype=torch.int64), torch.full_like(points[:, 0], n, dtype=torch.int64)
    out = []  # of each point: the rank of the first one of its group, the size of the group, its levels so far
    for i, count in enumerate(levels):
        order = points[:, i].argsort(stable=True)
        order = order[first[order].argsort(stable=True)]  # by group, then by this number
        rank = torch.empty_like(order).scatter(0, order, torch.arange(n, device=order.device)) - first
        level = rank * count // size
        start, end = -(-level * size // count), -(-(level + 1) * size // count)
        first, size = first + start, end - start
        out.append(level)
    return torch.stack(out, 1)


def quantizer(vq_levels, n_words, width):
    """The codes of parts that n_words words set, as --vq_levels says. Raises ValueError."""
    return Quantizer(parse_levels(vq_levels) or fitting_levels(n_words, width), width)
