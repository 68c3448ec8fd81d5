"""Device, number of threads, half precision."""

import contextlib
import ctypes
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from runtime.command_line import is_out_of_memory

MOST_THREADS = 1024


def choose_device(name: str) -> torch.device:
    """The device for "auto", "cpu", "cuda", "cuda:1", "mps" ...

    Raises ValueError in one line, and torch's own error if the device has no memory left.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # names of former devices are deprecated
            device = torch.device(name)
            float(torch.zeros(1, device=device))  # the meta device has no values, others need a package here
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(f"--device {name} is not available here; use --device auto") from None
    return torch.device("cpu") if device.type == "cpu" else device  # "cpu:1" is the same device, but compares unequal


def set_threads(count: int = 0) -> None:
    """Use `count` CPU threads; 0 takes OMP_NUM_THREADS, or else at most 8 of the cores that this process may use.

    Set explicitly, because torch counts the machine's cores even where a container lends fewer,
    and threads that outnumber cores spin. Raises ValueError for an OMP_NUM_THREADS that is no number.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(count or threads_in_environment() or min(cores, 8))


def threads_in_environment() -> int:
    """OMP_NUM_THREADS, or 0 if it is not set. OpenMP allows a list such as 4,2, a number for each level of nesting."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip() or "0"
    if not first.isdecimal() or int(first) > MOST_THREADS:
        value = os.environ["OMP_NUM_THREADS"]
        raise ValueError(f"OMP_NUM_THREADS={value} in the environment is no number of threads; unset it or set it to 1")
    return int(first)


def keep_memory() -> None:
    """Keep memory that a step frees for the next one, if the C library is glibc.

    glibc would return large blocks to the system, which hands them out again page by page: thousands of page faults
    a step.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD, bytes
        mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD, bytes


@contextlib.contextmanager
def tf32(device: torch.device) -> Iterator[None]:
    """Float32 matrix products on a GPU's tensor cores, with a mantissa of 10 bits instead of 23; no effect elsewhere.

    Accurate enough for networks and gradients, not for pictures and for losses that subtract large squares.
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


def amp_dtype(device: torch.device) -> torch.dtype | None:
    """The half precision that is fast on a device, or None: bf16 where the chip computes in it, fp16 on older GPUs.

    `torch.cuda.is_bf16_supported()` is True on chips that emulate it.
    """
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
