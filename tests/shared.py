"""A folder that all workers of a test run share, and what one of them makes there for all."""

import atexit
import os
import shutil
import tempfile
import time
from pathlib import Path

VARIABLE = "FOLDER_OF_THE_TEST_RUN"
if VARIABLE not in os.environ:  # the process that starts the workers, which inherit it
    os.environ[VARIABLE] = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, os.environ[VARIABLE], ignore_errors=True)
FOLDER = Path(os.environ[VARIABLE])


def made_once(name, make, timeout=600):
    """The path `name` in the folder, which the first worker that asks for it makes by `make(path)`; the others wait for it."""
    path, ended = FOLDER / name, FOLDER / f"{name}.ended"
    try:
        (FOLDER / f"{name}.begun").mkdir()
    except FileExistsError:
        until = time.monotonic() + timeout
        while not ended.exists() and time.monotonic() < until:
            time.sleep(0.05)
    else:
        try:
            make(path)
        finally:
            ended.touch()
    assert path.exists(), f"{name} could not be made; the worker that tried says why"
    return path
