"""The page of demo.py, made with Gradio: what is on it, and what happens when somebody touches it.

A handler gets all that it needs from the browser's own session and returns all that changes, so that users do not mix.
"""

import html
from types import SimpleNamespace

import gradio as gr
import numpy as np
from PIL import Image

from pictures import as_64x64, from_image, to_image
from playground import fragments
from playground.model import DAMAGE, MAX_BYTES, MAX_PIXELS, damage
from text.grounding import given_line, grounded_words

EDITOR_SIDE = 384  # px: six times a scene, so that the brush is easier to aim
ERASED = "#808080"
LABELS = {"rotation": "Rotation, °", "blur": "Blur, σ px", "noise": "Noise, σ", "jpeg": "JPEG quality (100: none)"}
STEPS = {"rotation": 1, "blur": 0.1, "noise": 0.01, "jpeg": 1}
CSS = f"""
{fragments.STYLE}
#scene img {{ image-rendering: pixelated; width: 384px; max-width: 100%; height: auto !important; aspect-ratio: 1; margin: 0 auto;
  object-fit: fill !important; }}
#message:not(:has(.problem)) {{ display: none; }}
.problem {{ color: var(--error-text-color, #b3261e); font-weight: 600; border-left: 4px solid currentColor; padding-left: .6rem; }}
@media (max-width: 640px) {{ .play img {{ width: 104px; height: 104px; }} .gradio-container > main {{ padding: 12px !important; }} }}
"""


def image_of(picture):
    """A picture (3, 64, 64) in [0, 1] -> what an image of the page shows."""
    return to_image(picture)


def picture_of(pixels):
    """Pixels (64, 64, 3) as a session keeps them -> a picture; None for None."""
    return None if pixels is None else from_image(Image.fromarray(pixels))


class Handlers:
    """What the page does, with a `Playground`."""

    def __init__(self, play):
        self.play = play

    def place_choices(self, text):
        """Words of a sentence that can be swapped, for a menu -> [(word, place)], and the other words of the first."""
        swaps = self.play.swaps(text)
        return [(word, place) for place, word, _ in swaps], (swaps[0][2] if swaps else [])

    def show(self, picture, read, text="", parts=""):
        """What changes when another picture is on the page. The order is that of `shown` in `connect`."""
        choices, others = self.place_choices(text) if text else ([], [])
        image = image_of(picture)
        return (
            "",
            image,
            fragments.reading(read, text or None),
            parts,
            np.array(image),
            image.resize((EDITOR_SIDE, EDITOR_SIDE), Image.NEAREST),
            text,
            gr.Dropdown(choices=choices, value=choices[0][1] if choices else None, interactive=bool(choices)),
            gr.Dropdown(choices=others, value=None, interactive=bool(choices)),
            "",
            *(neutral for _, neutral, _ in DAMAGE.values()),
            "",
            "",
        )

    def draw(self, text):
        """A typed sentence."""
        drawn = self.play.draw(text)
        return self.show(drawn.picture, drawn.reading, drawn.text, fragments.parts(drawn))

    def invent(self, count):
        """The next sentence that the language model invents."""
        text = self.play.invented(count)
        return (text, count + 1, *self.draw(text))

    def upload(self, path):
        """A file of the user."""
        picture = self.play.opened(path)
        return self.show(picture, self.play.read(picture))

    def other_words(self, text, place):
        """The menu of words that can stand in a place."""
        others = next((others for p, _, others in self.play.swaps(text) if p == place), []) if text else []
        return gr.Dropdown(choices=others, value=None)

    def swap(self, text, place, word):
        """The sentence with one word swapped, beside the one before."""
        if not text or place is None or not word:
            return ""
        return fragments.comparison(self.play.draw(text), self.play.draw(self.play.swapped(text, int(place), word)))

    def damaged(self, pixels, text, *strengths):
        """The picture on the page, damaged as the sliders say."""
        if pixels is None or list(strengths) == [neutral for _, neutral, _ in DAMAGE.values()]:
            return ""
        worse = damage(picture_of(pixels), **dict(zip(DAMAGE, strengths)))
        return self.beside(worse, "damaged", text)

    def erased(self, edited, pixels, text):
        """The picture on the page, in parts painted over."""
        if pixels is None or not edited or edited.get("composite") is None:
            return ""
        rest = from_image(as_64x64(edited["composite"], "the picture", MAX_PIXELS))
        if np.array_equal(np.array(image_of(rest)), pixels):
            return ""
        return self.beside(rest, "what is left", text)

    def beside(self, picture, name, text):
        read = self.play.read(picture)
        return f'<div class="play">{fragments.figure(picture, name)}<div>{fragments.reading(read, text or None)}</div></div>'


def guarded(handler, outputs):
    """A handler whose errors that the user can mend become one line in its first output; all else stays."""

    def call(*args):
        try:
            return handler(*args)
        except ValueError as error:  # UnknownWord, PictureError
            return (fragments.problem(error), *[gr.skip()] * (outputs - 1)) if outputs > 1 else fragments.problem(error)

    return call


def build(play, name):
    """The page of a `Playground` -> gradio.Blocks. name: of the model, as the page tells it."""
    told = given_line(grounded_words(play.cycle, play.vocab))
    given = f" {html.escape(told[0].upper() + told[1:])}." if told else ""
    with gr.Blocks(title="A visual language", analytics_enabled=False, delete_cache=(60, 600)) as page:
        gr.Markdown(
            "# A visual language learned from text alone\n"
            "Type a sentence. A model draws it, and a captioner, which sees only the picture, reads it back. "
            f"No picture was ever given as an example.{given} Model: {html.escape(name)}"
        )
        parts = SimpleNamespace(pixels=gr.State(None), drawn_text=gr.State(""), invented=gr.State(0))
        lay_out_scene(parts, play.example())
        lay_out_experiments(parts)
        connect(page, parts, Handlers(play))
    return page


def lay_out_scene(c, example):
    """The sentence, its picture and its reading. c: a namespace, which gets the components."""
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


def lay_out_experiments(c):
    """What one can do with the picture. Sections that fold, because tabs do not fit a phone."""
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
        gr.Markdown("Paint over a part of the picture. What does the captioner make of the rest?")
        c.editor = gr.ImageEditor(
            type="pil", sources=(), transforms=(), layers=False, format="png", canvas_size=(EDITOR_SIDE, EDITOR_SIDE),
            fixed_canvas=True, brush=gr.Brush(default_size=40, colors=[ERASED], default_color=ERASED, color_mode="fixed"),
            elem_id="editor", show_label=False, buttons=[],
        )  # fmt: skip
        c.erased = gr.HTML(elem_id="erased")
    with gr.Accordion("Upload a picture", open=False):
        gr.Markdown(
            f"A picture of your own, of any format, up to {MAX_BYTES // 10**6} MB and {MAX_PIXELS // 10**6} million pixels, "
            "or one that you dragged out of this page. A photo gets a caption, too: the scene that would look most like it."
        )
        c.file = gr.File(label="Picture file", elem_id="file", height=140)


def connect(page, c, on):
    """What happens when somebody touches a component. on: Handlers."""
    shown = [
        c.message,
        c.scene,
        c.reading,
        c.layers,
        c.pixels,
        c.editor,
        c.drawn_text,
        c.place,
        c.word,
        c.swapped,
        *c.sliders,
    ]
    shown += [c.damaged, c.erased]

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


def theme():
    """Fonts of the machine itself: none is fetched."""
    fonts = dict(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    return gr.themes.Default(**fonts)
