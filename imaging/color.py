"""Color spaces."""

import torch


def srgb_to_lab(rgb: torch.Tensor, axis: int = -1) -> torch.Tensor:
    """sRGB in [0, 1], its channels along `axis` -> CIELAB (D65, IEC 61966-2-1 and CIE 15), differentiable
    everywhere."""
    rgb = rgb.float().movedim(axis, -1)
    low = rgb <= 0.04045
    linear = torch.where(low, rgb / 12.92, ((torch.where(low, 1.0, rgb) + 0.055) / 1.055) ** 2.4)
    to_xyz = rgb.new_tensor(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = linear @ (to_xyz / rgb.new_tensor([0.95047, 1.0, 1.08883])[:, None]).T
    dark = xyz <= (6 / 29) ** 3
    f = torch.where(dark, xyz * (29 / 6) ** 2 / 3 + 4 / 29, torch.where(dark, 1.0, xyz) ** (1 / 3))
    x, y, z = f.unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1).movedim(-1, axis)
