"""Which device, how many threads, which half precision."""

import contextlib
import ctypes
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from runtime.command_line import is_out_of_memory


def choose_device(name):
    """ "auto", "cpu", "cuda", "cuda:1", "mps" -> torch.device. Raises ValueError in one line, and what torch raises where the
    device has no memory left."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about names of devices that torch had once
            device = torch.device(name)
            float(
                torch.zeros(1, device=device)
            )  # some devices hold no numbers, and some break here for want of a package
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(f"--device {name} is not available here; use --device auto") from None
    return (
        torch.device("cpu") if device.type == "cpu" else device
    )  # "cpu:1" is the same one, under a name that equals no other


def set_threads(count=0):
    """Take `count` CPU threads; 0 takes the cores that this process may use.

    Set explicitly, because torch counts the machine's cores even where a container lends fewer,
    and threads that outnumber cores spin.
    """
    if count == 0:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        count = int(os.environ.get("OMP_NUM_THREADS", 0) or 0) or min(cores, 8)
    torch.set_num_threads(count)


def keep_memory():
    """Keep memory that a step gives back for the next one, where the C library is glibc.

    It would return large pieces to the system, which hands them out again page by page: thousands of page faults a step.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD, bytes
        mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD, bytes


@contextlib.contextmanager
def tf32(device):
    """Float32 products on a GPU's tensor cores, which keep 10 bits of the 23 behind the point; elsewhere nothing changes.

    Good enough for networks and for gradients, not for pictures and for losses that take differences of large squares.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def amp_dtype(device):
    """The half precision that is fast on a device, or None: bf16 where the chip computes in it, fp16
    on older GPUs. (`torch.cuda.is_bf16_supported()` says True on chips that emulate it.)"""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    if device.type == "cpu":
        fast = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return torch.bfloat16 if any(getattr(torch.cpu, name, bool)() for name in fast) else None
    return None


@dataclass(frozen=True)
class Precision:
    """The arithmetic of a training step on a device; dtype: the half precision of autocast, or None for float32."""

    device: torch.device
    dtype: torch.dtype | None = None

    @contextlib.contextmanager
    def of_networks(self) -> Iterator[None]:
        """Autocast, and TF32 on GPUs: for the language model, the captioner and their token losses."""
        with self.of_pictures(), tf32(self.device):
            yield

    @contextlib.contextmanager
    def of_pictures(self) -> Iterator[None]:
        """Autocast without TF32, which is too coarse for pictures: for scene decoders."""
        with torch.autocast(self.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None):
            yield
