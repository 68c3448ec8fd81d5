"""Imports matplotlib, also where the user's settings of it are broken."""

import importlib.util
import os
import sys


def import_matplotlib() -> None:
    """Import matplotlib; with its own defaults if MPLBACKEND or a matplotlibrc file is invalid, which costs a warning.

    Nothing here uses a backend: figures are written to files.
    """
    try:
        import matplotlib
    except ValueError as error:  # a backend of an unknown name, or a file that is not UTF-8
        reason = str(error).splitlines()[0]
        print(f"warning: matplotlib's settings are ignored ({reason})", file=sys.stderr)
        data = os.path.join(importlib.util.find_spec("matplotlib").submodule_search_locations[0], "mpl-data")
        former = os.getcwd()
        backend = os.environ.pop("MPLBACKEND", None)
        for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
            del sys.modules[name]  # half of it is loaded
        try:
            os.chdir(data)  # matplotlib prefers the matplotlibrc of the working folder
            import matplotlib  # noqa: F401
        finally:
            os.chdir(former)
            if backend is not None:
                os.environ["MPLBACKEND"] = backend
