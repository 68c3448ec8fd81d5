"""Draw docs/pictures/architecture.png from one training step of the quick preset: python -m scripts.architecture

Names and shapes are read from the modules while the step runs, so the figure shows the code as it is.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import nn

from data_utils import GrammarData
from runtime.command_line import Parser, exit_code
from runtime.files import whole_file
from settings import PRESETS, Settings
from training.trainer import Trainer

OUT = Path(__file__).resolve().parent.parent / "docs" / "pictures" / "architecture.png"
COLORS = {"language_model": "#dbe9f6", "scene_decoder": "#fde6cf", "caption_network": "#dcefdc"}
CHANNEL = "channel: 8-bit rounding, one corruption per picture"
TEXT = dict(va="top", family="monospace", fontsize=9)


def shape(tensor: torch.Tensor) -> str:
    """The shape of a batch, with B for the number of sentences."""
    return f"({', '.join(['B', *map(str, tensor.shape[1:])])})"


def tensors(output: object) -> list[str]:
    """Name and shape of each tensor that a module returns; those of a tuple are numbered."""
    values = vars(output) if dataclasses.is_dataclass(output) else dict(enumerate(output))
    return [f"{name} {shape(value)}" for name, value in values.items() if isinstance(value, torch.Tensor)]


def watch(network: nn.Module) -> tuple[dict[str, str], list[tuple]]:
    """Record the first output shape of each part of a network, and what the network receives and returns."""
    parts, calls = {}, []
    for part, child in network.named_children():
        many = isinstance(child, (nn.ModuleList, nn.ModuleDict)) and len(child) > 0
        modules = list(child.children()) if many else [child]
        title = f"{part}: {f'{len(modules)} x ' if many else ''}{type(modules[0]).__name__}"

        def note(module: nn.Module, args: tuple, output: object, title: str = title) -> None:
            shown = shape(output) if isinstance(output, torch.Tensor) else tensors(output)[0]
            parts.setdefault(title, shown.removeprefix("0 "))

        modules[-1].register_forward_hook(note)
    network.register_forward_hook(lambda module, args, output: calls.append((args, output)))
    return parts, calls


def draw(path: Path | str = OUT) -> int:
    """One training step -> the figure. Returns the exit code."""
    settings = Settings(**{**PRESETS["quick"], "use_amp": False})
    trainer = Trainer(settings, GrammarData(settings.num_samples, settings.seed), torch.device("cpu"))
    networks = {name: getattr(trainer.cycle, name) for name in COLORS}
    seen = {name: watch(network) for name, network in networks.items()}
    losses = [f"{getattr(settings, f'lambda_{name}')} {name}" for name in trainer.train_step()]

    boxes = []  # title, lines, color, what the box returns
    for name, (parts, calls) in seen.items():
        (args, output), lines = calls[0], [f"  {part:<40}{size}" for part, size in parts.items()]
        if name == "caption_network":
            boxes.append((CHANNEL, [], "#e8e8e8", [f"received {shape(args[0])}"]))
        boxes.append((f"{type(networks[name]).__name__}: {name}", lines, COLORS[name], tensors(output)))
    boxes.append(("loss, a weighted sum of", ["  " + term for term in losses], "#f6dbe3", []))

    inches = [0.155 * max(len(lines) + 1, len(returned)) + 0.5 for _, lines, _, returned in boxes]
    figure = Figure(figsize=(9, height := sum(inches) + 0.6))
    ids = shape(seen["language_model"][1][0][0][0])
    figure.text(0.03, 1 - 0.1 / height, f"token ids {ids}: B sentences, padded", **TEXT)
    figure.text(0.70, 1 - 0.1 / height, "returns", **TEXT)
    y = 1 - 0.6 / height
    for (title, lines, color, returned), size in zip(boxes, inches):
        box = dict(boxstyle="round,pad=0.5", facecolor=color, edgecolor="#888888")
        figure.text(0.3, y + 0.35 / height, "↓", **TEXT)
        figure.text(0.03, y, "\n".join([f"{title:<64}", *lines]), bbox=box, **TEXT)
        figure.text(0.70, y, "\n".join(returned), **TEXT)
        y -= size / height
    with whole_file(path) as file:
        figure.savefig(file, format="png", dpi=110)
    return 0


if __name__ == "__main__":
    Parser("scripts/architecture.py", __doc__).parse_args()
    raise SystemExit(exit_code("scripts/architecture.py", draw))
