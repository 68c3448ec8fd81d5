"""Pictures and pages below the cells of a notebook; without a notebook, their paths are printed."""

import contextlib
import glob
import html
import os
import sys

SAMPLES = "sample_generations.png"


def in_notebook() -> bool:
    """Whether a notebook shows what this process prints."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")


def modified(path: str) -> int | None:
    """When a file was last written, ns; None if it is not there."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None


def newest_scenes(log_dir: str) -> str:
    """The scene sheet of the latest epoch, "" if there is none yet."""
    paths = glob.glob(os.path.join(glob.escape(log_dir), "scenes_epoch_*.png"))
    return max(paths, key=lambda p: (len(p), p), default="")  # a longer name has the larger number


def show_picture(path: str) -> None:
    """Show a picture file. Raises OSError."""
    if not in_notebook():
        print(path)
        return
    from IPython.display import Image, display

    with open(path, "rb") as f:
        display(Image(data=f.read()))


def show_results(log_dir: str) -> None:
    """Show samples, curves and the latest scenes of a run. Raises FileNotFoundError if it has none yet."""
    titles = ("Samples: sentence, scene, caption", "Curves", "Scenes of the last epoch")
    paths = (os.path.join(log_dir, SAMPLES), os.path.join(log_dir, "training_curves.png"), newest_scenes(log_dir))
    for title, path in zip(titles, paths, strict=True):
        if not os.path.exists(path):
            raise FileNotFoundError(f"{path or 'a scene sheet in ' + log_dir} is not there; train first")
        print(title)
        show_picture(path)


def show_fragment(fragment: str, text: str) -> None:
    """Show HTML of playground/fragments.py, or `text` without a notebook."""
    if not in_notebook():
        print(text)
        return
    from IPython.display import HTML, display

    from playground.fragments import STYLE

    display(HTML(f"<style>{STYLE}</style>{fragment}"))


def show_page(path: str, height: int = 720) -> None:
    """Show an HTML file in a frame, `height` pixels high. Raises OSError."""
    if not in_notebook():
        print(path)
        return
    from IPython.display import HTML, display

    with open(path, encoding="utf-8") as f:
        page = html.escape(f.read(), quote=True)
    style = f"width:100%;height:{height}px;border:1px solid #ccc"
    frame = f'<iframe title="{html.escape(os.path.basename(path))}" style="{style}"'
    # in a div, since IPython warns of a bare iframe and proposes one that Colab cannot fill
    display(HTML(f'<div>{frame} srcdoc="{page}"></iframe></div>'))


class LivePictures:
    """Curves and scenes above the log of a running cell, updated after every epoch."""

    def __init__(self, log_dir: str) -> None:
        from IPython.display import HTML, display

        self.log_dir = log_dir
        self.shown = {}  # name: (path, when written)
        self.places = {
            n: display(HTML(f"<i>{n} appear after an epoch</i>"), display_id=True) for n in ("curves", "scenes")
        }

    def refresh(self) -> None:
        """Show new files; one that cannot be read now is shown next time."""
        from IPython.display import Image

        for name, path in (
            ("curves", os.path.join(self.log_dir, "training_curves.png")),
            ("scenes", newest_scenes(self.log_dir)),
        ):
            now = modified(path)
            if now and self.shown.get(name) != (path, now):
                with contextlib.suppress(OSError), open(path, "rb") as f:
                    self.places[name].update(Image(data=f.read()))
                    self.shown[name] = (path, now)
