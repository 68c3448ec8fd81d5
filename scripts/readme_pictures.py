"""The pictures of README.md and docs/ from a checkpoint: python -m scripts.readme_pictures CHECKPOINT

A model of the grammar makes those of scenes, a model of real sentences that of docs/real_text.md.
"""

import sys
from pathlib import Path

import torch

from checkpoints import load_model
from pictures import draw_sentences, read_pictures
from runtime.command_line import Parser, exit_code
from text.grammar import COLORS, OBJECTS, POSITIONS, SIZES, different_sentences, render
from visualization import grid_sheet, round_trips, scene_sheet

ROOT = Path(__file__).resolve().parent.parent

FOLDER = ROOT / "docs" / "pictures"
BOUND = [  # which object has which word
    "a red ball and a blue box", "a blue ball and a red box", "a ball and a red box", "a red ball and a box",
    "a ball in the left above a box", "a ball above a box in the left",
    "a huge ball and a tiny box", "a tiny ball and a huge box",
    "a ball", "a ball and a box", "a ball and a box and a star", "a ball on a striped background",
]  # fmt: skip
TYPED = [  # none of them stands in a captions file
    "Two kids' kites, up in the sky!", "An old man feeds pigeons in front of a bakery.", "a red ball and a blue cube",
    "A red cube, and a ball that is blue.", "I'd like a flat white, please.", "Colorless green ideas sleep furiously.",
    "Ein Mädchen läuft über die Straße.", "E = mc^2",
]  # fmt: skip


def draw_all(path):
    """Every picture, from the model of a checkpoint. Returns the exit code. Raises CheckpointError, OSError."""
    FOLDER.mkdir(exist_ok=True)
    cpu = torch.device("cpu")
    cycle, vocab, settings = load_model(path, cpu)
    if settings.captions_file:
        pictures = draw_sentences(cycle, vocab, TYPED, cpu)
        round_trips(TYPED, pictures, read_pictures(cycle, vocab, pictures, cpu)[0], FOLDER / "real_text.png")
        return 0

    def draw(sentences):
        return draw_sentences(cycle, vocab, sentences, cpu)

    def sentence(**slots):
        return render({"size": "large", "color": "red", "object": "ball", "position": "center", **slots})

    grid = draw([sentence(color=c, object=o) for o in OBJECTS for c in COLORS])
    grid_sheet(grid, OBJECTS, COLORS, FOLDER / "colors_objects.png")
    grid = draw([sentence(size=s, position=p) for s in SIZES for p in POSITIONS])
    grid_sheet(grid, SIZES, POSITIONS, FOLDER / "positions_sizes.png")
    texts = different_sentences(12, "test", 5)
    pictures = draw(texts)
    round_trips(texts, pictures, read_pictures(cycle, vocab, pictures, cpu)[0], FOLDER / "round_trips.png")
    scene_sheet(draw(BOUND), BOUND, FOLDER / "binding.png")
    return 0


def main(argv=None):
    parser = Parser("scripts/readme_pictures.py", __doc__)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a .pt file, or a folder that export.py made")
    args = parser.parse_args(argv)
    return exit_code("scripts/readme_pictures.py", lambda: draw_all(args.checkpoint))


if __name__ == "__main__":
    sys.exit(main())
