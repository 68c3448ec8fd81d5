"""`google.colab.files`: upload and download without a browser."""

import os
import pathlib
import shutil


def upload():
    """What Colab does: the chosen file lands in the working folder, and its name and bytes are returned."""
    chosen = pathlib.Path(os.environ["FAKE_UPLOAD"])
    shutil.copy(chosen, chosen.name)
    return {chosen.name: chosen.read_bytes()}


def download(filename):
    if not os.path.exists(filename):
        raise FileNotFoundError(f"Cannot find file: {filename}")
    shutil.copy(filename, os.environ["FAKE_DOWNLOADS"])
