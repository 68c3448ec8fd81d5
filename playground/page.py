"""The page of demo.py, made with Gradio: its components, and the handlers of their events.

A handler takes all its inputs from the browser's session and returns all that changes, so that sessions stay separate.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from types import SimpleNamespace

import gradio as gr
import numpy as np
import torch
from PIL import Image

from pictures import as_64x64, from_image, to_image
from playground import fragments
from playground.model import DAMAGE, MAX_BYTES, MAX_PIXELS, Playground, Reading, damage
from text.grounding import grounded_words, grounding_line

EDITOR_SIDE = 384  # pixels: six times a scene, so that the brush is easier to aim
NEUTRAL = [neutral for _, neutral, _ in DAMAGE.values()]  # strengths that change nothing
ERASED = "#808080"
LABELS = {"rotation": "Rotation, °", "blur": "Blur, σ px", "noise": "Noise, σ", "jpeg": "JPEG quality (100: none)"}
STEPS = {"rotation": 1, "blur": 0.1, "noise": 0.01, "jpeg": 1}
CSS = f"""
{fragments.STYLE}
#scene img {{ image-rendering: pixelated; width: 384px; max-width: 100%; height: auto !important; aspect-ratio: 1;
  margin: 0 auto; object-fit: fill !important; }}
#message:not(:has(.problem)) {{ display: none; }}
.problem {{ color: var(--error-text-color, #b3261e); font-weight: 600; border-left: 4px solid currentColor;
  padding-left: .6rem; }}
@media (max-width: 640px) {{
  .play img {{ width: 104px; height: 104px; }} .gradio-container > main {{ padding: 12px !important; }}
}}
"""


def picture_of(pixels: np.ndarray | None) -> torch.Tensor | None:
    """Pixels (64, 64, 3) as a session keeps them -> a picture (3, 64, 64) in [0, 1]; None for None."""
    return None if pixels is None else from_image(Image.fromarray(pixels))


class Handlers:
    """What the page does with a `Playground`. Each method returns new values of the components that `connect` lists."""

    def __init__(self, play: Playground):
        self.play = play

    def show(self, picture: torch.Tensor, read: Reading, text: str = "", parts: str = "") -> tuple:
        """Another picture on the page -> values of `shown` in `connect`. text: the drawn sentence, if there is one."""
        swaps = self.play.swaps(text) if text else []
        choices = [(swap.word, swap.place) for swap in swaps]
        image = to_image(picture)
        return (
            "",
            image,
            fragments.reading(read, text or None),
            parts,
            np.array(image),
            image.resize((EDITOR_SIDE, EDITOR_SIDE), Image.NEAREST),
            text,
            gr.Dropdown(choices=choices, value=swaps[0].place if swaps else None, interactive=bool(swaps)),
            gr.Dropdown(choices=swaps[0].others if swaps else [], value=None, interactive=bool(swaps)),
            "",
            *NEUTRAL,
            "",
            "",
        )

    def draw(self, text: str) -> tuple:
        """Draw a typed sentence."""
        drawn = self.play.draw(text)
        return self.show(drawn.picture, drawn.reading, drawn.text, fragments.parts(drawn))

    def invent(self, count: int) -> tuple:
        """Draw the next sentence that the language model invents."""
        text = self.play.invented(count)
        return (text, count + 1, *self.draw(text))

    def upload(self, path: str) -> tuple:
        """Read a file of the user."""
        picture = self.play.opened(path)
        return self.show(picture, self.play.read(picture))

    def other_words(self, text: str, place: int | None) -> gr.Dropdown:
        """The menu of words that can replace the word in a place."""
        swaps = self.play.swaps(text) if text else []
        others = next((swap.others for swap in swaps if swap.place == place), [])
        return gr.Dropdown(choices=others, value=None)

    def swap(self, text: str, place: int | None, word: str | None) -> str:
        """The sentence with one word swapped, beside the sentence before."""
        if not text or place is None or not word:
            return ""
        return fragments.comparison(self.play.draw(text), self.play.draw(self.play.swapped(text, int(place), word)))

    def damaged(self, pixels: np.ndarray | None, text: str, *strengths: float) -> str:
        """The picture on the page after the damage that the sliders set."""
        if pixels is None or list(strengths) == NEUTRAL:
            return ""
        picture = damage(picture_of(pixels), **dict(zip(DAMAGE, strengths)))
        return fragments.beside(picture, "damaged", self.play.read(picture), text or None)

    def erased(self, edited: dict | None, pixels: np.ndarray | None, text: str) -> str:
        """The picture on the page, in parts painted over."""
        if pixels is None or not edited or edited.get("composite") is None:
            return ""
        picture = from_image(as_64x64(edited["composite"], "the picture", MAX_PIXELS))
        if np.array_equal(np.array(to_image(picture)), pixels):
            return ""
        return fragments.beside(picture, "what is left", self.play.read(picture), text or None)


def guarded(handler: Callable, outputs: int) -> Callable:
    """The handler, with errors that the user can correct shown in its first output; the other outputs do not change."""

    def call(*args):
        try:
            return handler(*args)
        except ValueError as error:  # UnknownWord, PictureError
            return (fragments.problem(error), *[gr.skip()] * (outputs - 1)) if outputs > 1 else fragments.problem(error)

    return call


def build(play: Playground, name: str) -> gr.Blocks:
    """The page of a `Playground`. name: of the model, as the page shows it."""
    line = grounding_line(grounded_words(play.cycle, play.vocab))
    given = f" {html.escape(line[0].upper() + line[1:])}." if line else ""
    with gr.Blocks(title="A visual language", analytics_enabled=False, delete_cache=(60, 600)) as page:
        gr.Markdown(
            "# A visual language learned from text alone\n"
            "Type a sentence. A model draws it, and a captioner, which sees only the picture, reads it back. "
            f"No picture was used in training.{given} Model: {html.escape(name)}"
        )
        parts = SimpleNamespace(pixels=gr.State(None), drawn_text=gr.State(""), invented=gr.State(0))
        lay_out_scene(parts, play.example())
        lay_out_experiments(parts)
        connect(page, parts, Handlers(play))
    return page


def lay_out_scene(c: SimpleNamespace, example: str) -> None:
    """Add the sentence, its picture and its caption to the page; c gets the components as attributes."""
    with gr.Row(equal_height=False):
        c.text = gr.Textbox(
            example, label="Sentence", max_length=1000, lines=1, scale=4, min_width=300, elem_id="sentence"
        )
        with gr.Column(scale=1, min_width=140):
            c.draw = gr.Button("Draw", variant="primary", elem_id="draw")
            c.invent = gr.Button("Invent one", elem_id="invent")
    c.message = gr.HTML(elem_id="message")
    with gr.Row():
        with gr.Column(min_width=280):
            c.scene = gr.Image(
                label="Picture, 64×64 px", format="png", interactive=False, elem_id="scene",
                buttons=["download"], alt_text="the picture that the captioner reads",
            )  # fmt: skip
            c.layers = gr.HTML(elem_id="layers")
        with gr.Column(min_width=280):
            c.reading = gr.HTML(elem_id="reading")


def lay_out_experiments(c: SimpleNamespace) -> None:
    """Add the experiments, as `lay_out_scene` does, in accordions, because tabs do not fit a phone."""
    with gr.Accordion("Swap a word", open=True):
        with gr.Row():
            c.place = gr.Dropdown([], label="Word", elem_id="place")
            c.word = gr.Dropdown([], label="becomes", elem_id="word")
        c.swapped = gr.HTML(elem_id="swapped")
    with gr.Accordion("Damage the picture", open=False):
        with gr.Row():
            c.sliders = [
                gr.Slider(low, high, neutral, step=STEPS[kind], label=LABELS[kind], elem_id=kind, min_width=200)
                for kind, ((low, high), neutral, _) in DAMAGE.items()
            ]
        c.damaged = gr.HTML(elem_id="damaged")
    with gr.Accordion("Erase a part", open=False):
        gr.Markdown("Paint over a part of the picture. What does the captioner read in the rest?")
        brush = gr.Brush(default_size=40, colors=[ERASED], default_color=ERASED, color_mode="fixed")
        c.editor = gr.ImageEditor(
            type="pil", sources=(), transforms=(), layers=False, format="png", canvas_size=(EDITOR_SIDE, EDITOR_SIDE),
            fixed_canvas=True, brush=brush, elem_id="editor", show_label=False, buttons=[],
        )  # fmt: skip
        c.erased = gr.HTML(elem_id="erased")
    with gr.Accordion("Upload a picture", open=False):
        gr.Markdown(
            f"A picture of your own, of any format, up to {MAX_BYTES // 10**6} MB and {MAX_PIXELS // 10**6} million "
            "pixels, or one that you dragged out of this page. A photo gets the caption of the most similar scene."
        )
        c.file = gr.File(label="Picture file", elem_id="file", height=140)


def connect(page: gr.Blocks, c: SimpleNamespace, on: Handlers) -> None:
    """Connect the events of the components to the handlers."""
    shown = [c.message, c.scene, c.reading, c.layers, c.pixels, c.editor, c.drawn_text, c.place, c.word, c.swapped]
    shown += [*c.sliders, c.damaged, c.erased]

    def calls(handler, inputs, outputs=shown, api_name=None):
        return dict(
            fn=guarded(handler, len(outputs)),
            inputs=inputs,
            outputs=outputs,
            api_name=api_name,
            show_progress="minimal",
        )

    gr.on([c.draw.click, c.text.submit], **calls(on.draw, c.text, api_name="draw"))
    page.load(**calls(on.draw, c.text), api_visibility="private")
    c.invent.click(on.invent, c.invented, [c.text, c.invented, *shown], api_name="invent", show_progress="minimal")
    c.file.upload(**calls(on.upload, c.file, api_name="upload"))
    c.place.input(**calls(on.other_words, [c.drawn_text, c.place], [c.word], "other_words"))
    c.word.input(**calls(on.swap, [c.drawn_text, c.place, c.word], [c.swapped], "swap"))
    moved = calls(on.damaged, [c.pixels, c.drawn_text, *c.sliders], [c.damaged], "damage")
    gr.on([slider.input for slider in c.sliders], **moved, trigger_mode="always_last")
    c.editor.input(
        **calls(on.erased, [c.editor, c.pixels, c.drawn_text], [c.erased], "erase"), trigger_mode="always_last"
    )


def theme() -> gr.themes.Base:
    """A theme with fonts of the operating system: none is downloaded."""
    fonts = dict(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    return gr.themes.Default(**fonts)
