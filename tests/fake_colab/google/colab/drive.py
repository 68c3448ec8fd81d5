"""`google.colab.drive`: a Drive that is a plain folder."""

import os
import pathlib


def mount(mountpoint, force_remount=False, timeout_ms=120000, readonly=False):
    if os.environ.get("FAKE_DRIVE") == "fails":
        raise ValueError("mount failed")
    my_drive = pathlib.Path(mountpoint, "MyDrive")
    if not my_drive.exists() and pathlib.Path(mountpoint).exists() and any(pathlib.Path(mountpoint).iterdir()):
        raise ValueError("Mountpoint must not already contain files")
    my_drive.mkdir(parents=True, exist_ok=True)
    print(f"Mounted at {mountpoint}")


def flush_and_unmount(timeout_ms=86400000):
    pathlib.Path(os.environ["DRIVE_MOUNT"] + ".flushed").touch()
