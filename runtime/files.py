"""Files that are never half written."""

import contextlib
import errno
import os
import shutil
import tempfile


@contextlib.contextmanager
def whole_file(path, mode="wb", durable=True, **options):
    """Open a file that takes its name only when it is complete: there whole, or not at all.

    With `durable` it is on the disk before it takes its name, so that not even a loss of power leaves half of it.
    Options are those of `open`. Raises OSError; what was there before stays.
    """
    folder = os.path.dirname(os.path.abspath(path))
    beside = os.path.join(folder, f".{os.path.basename(path)}.{os.getpid()}.tmp")
    try:
        with open(beside, mode, **options) as f:
            yield f
            if durable:
                f.flush()
                os.fsync(f.fileno())
        os.replace(beside, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.remove(beside)
        if isinstance(error, OSError) and error.errno and not error.filename:  # of a full disk while writing
            raise OSError(error.errno, error.strerror, path) from None
        raise
    if durable:
        _flush_folder(folder)


def write_atomically(path, data):
    """Bytes -> a file that is there whole or not at all, even if the machine loses power.

    Raises OSError, with the space needed where space was the reason; what was there before stays.
    """
    try:
        with whole_file(path) as f:
            f.write(data)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        room = _room(os.path.dirname(os.path.abspath(path)))
        raise OSError(error.errno, f"{error.strerror}; {len(data) / 1e6:.1f} MB needed{room}", path) from None


def make_folder(folder):
    """Make a folder where there is none, and see that files can be made in it. Raises OSError, with the folder's name.

    Shows before hours of work, not after them, that nothing can be written.
    """
    os.makedirs(folder, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, folder) from None


def _flush_folder(folder):
    with contextlib.suppress(OSError):  # not every file system lets a folder be flushed
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _room(folder):
    try:
        return f", {shutil.disk_usage(folder).free / 1e6:.1f} MB free"
    except OSError:
        return ""
