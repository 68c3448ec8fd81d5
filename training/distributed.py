"""Several processes train one model: how they share a batch, what they exchange, how they end together.

    torchrun --nproc_per_node=2 train.py --preset quick

`--batch_size` is that of all processes together. Every process draws the same global batch of sentences, padded to its
longest, and takes its own slice of the rows. Losses that compare sentences see the features of the global batch. So
1 process with 64 sentences and 2 with 32 each have in common, step for step: the sentences, the learning rate, the
corruption strength, which sentence gets which corruption and how much of it, and, but for rounding, the gradient. The
noise of single pictures, latents and hidden words comes from a generator of each process, and differs.

A batch that cannot be divided evenly (the last of an epoch) is computed in full by every process.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from runtime.command_line import UserError, in_one_line
from runtime.devices import choose_device
from runtime.signals import Interrupted, StopWhenSafe
from text.vocabulary import PAD

# A process that dies is noticed at once, because its connections close. These timeouts are for a machine that stops
# responding, and for a rare race in gloo: the peer asks for a message and dies before it is written. Within a step
# no process is a minute behind another; a validation or a save, which the others wait for, may take longer.
SILENCE = timedelta(minutes=10)
SILENCE_IN_A_STEP = timedelta(minutes=1)
LEAVE_TOGETHER = timedelta(seconds=10)
REPORT_WAITING = 8.0  # seconds without the other processes until a line names what is waited for


class LostProcess(UserError):
    """Another process of the run is gone."""


def in_environment(name: str, default: int, low: int = 0) -> int:
    """A whole number in the environment. Raises UserError."""
    text = os.environ.get(name, str(default))
    if not text.isdecimal() or int(text) < low:
        raise UserError(f"{name}={text} in the environment is no whole number from {low}; unset it, or start torchrun")
    return int(text)


def world_size() -> int:
    """How many processes torchrun started for this run; 1 without it. Raises UserError."""
    return in_environment("WORLD_SIZE", 1, low=1) if "MASTER_ADDR" in os.environ and "RANK" in os.environ else 1


@contextlib.contextmanager
def only_rank_0_prints() -> Iterator[None]:
    """All processes but rank 0 print to the null device, so that each line, warning and bar is seen once.

    An exception that is not caught leaves this block first, so its traceback is seen from any process.
    """
    if world_size() == 1 or os.environ["RANK"] == "0":
        yield
        return
    with (
        open(os.devnull, "w", encoding="utf-8") as null,
        contextlib.redirect_stdout(null),
        contextlib.redirect_stderr(null),
    ):
        yield


class _Gather(torch.autograd.Function):
    """(1, n) of each process -> (size, n), in the order of the ranks.

    The backward pass returns this process's slice of the gradient, times the number of processes: each process has the
    gradient of the whole loss with respect to its own rows, and `average_in_place` takes the mean instead of the sum.
    """

    @staticmethod
    def forward(ctx, local, group):
        ctx.group = group
        parts = [torch.empty_like(local) for _ in range(group.size)]
        dist.all_gather(parts, local.contiguous(), group=group.tensors)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.group.size * ctx.group.local_rows(gradient), None


class ProcessGroup:
    """The processes of a run, seen from one of them. In `SINGLE_PROCESS`, a run of one, each method does no work."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size
        self.is_rank_0 = rank == 0
        self.complete = True  # no process was lost
        self.tensors = None  # the torch group of the tensors of a step
        self.hosts = None  # the gloo group of the integers of `maximum`; other messages take the default group

    # What a step needs

    def local_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """This process's rows of the global batch: (b * size, ...) -> (b, ...)."""
        share = len(rows) // self.size
        return rows[self.rank * share : (self.rank + 1) * share]

    def first_row(self, rows: torch.Tensor) -> int:
        """The index of this process's first row in the global batch."""
        return self.rank * (len(rows) // self.size)

    def share_of_targets(self, targets: torch.Tensor) -> torch.Tensor | int:
        """Weight of a mean over this process's targets, so that each target of the global batch has the same weight.

        targets (b * size, T), of the global batch, padded with PAD. 0 without any.
        """
        if self.size == 1:
            return 1
        is_target = targets != PAD
        return self.size * self.local_rows(is_target).sum() / is_target.sum().clamp(min=1)

    def gather(self, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
        """The rows of all processes by name: each (b, ...) -> (b * size, ...) float32.

        Gradients flow to this process's rows (see `_Gather`). All in one message, since every message waits for the
        slowest process.
        """
        if self.size == 1:
            return tensors
        values = torch.cat([t.float().flatten() for t in tensors.values()])[None]  # (1, n)
        sizes = [t.numel() for t in tensors.values()]
        parts = _Gather.apply(values, self).split(sizes, 1)  # one (size, t.numel()) for each tensor
        return {name: part.unflatten(1, t.shape).flatten(0, 1) for (name, t), part in zip(tensors.items(), parts)}

    def average_in_place(self, values: torch.Tensor, gradients: list[torch.Tensor]) -> torch.Tensor:
        """Replace each gradient by its mean over all processes -> the mean of values (n,). All in one message."""
        if self.size == 1:
            return values
        message = torch.cat([values, *(g.flatten() for g in gradients)])
        dist.all_reduce(message, group=self.tensors)
        values, *means = (message / self.size).split([len(values), *(g.numel() for g in gradients)])
        for gradient, mean in zip(gradients, means):
            gradient.copy_(mean.view_as(gradient))
        return values

    # What a run needs

    def device(self, name: str) -> torch.device:
        """--device -> torch.device, a different GPU for each process. Raises ValueError, UserError."""
        device = choose_device(name)
        if self.size > 1 and device.type == "cuda" and device.index is None:
            local_rank = in_environment("LOCAL_RANK", 0)
            gpus = torch.cuda.device_count()
            if local_rank >= gpus:
                raise UserError(f"this machine has {gpus} GPU(s); start one process for each, or use --device cpu")
            device = torch.device("cuda", local_rank)
            torch.cuda.set_device(device)
        return device

    def connect(self, device: torch.device) -> None:
        """Open the connections for the tensors of a step, which are on devices of this type."""
        if self.size > 1:
            self.hosts = self.tensors = dist.new_group(backend="gloo", timeout=SILENCE_IN_A_STEP)
            if device.type == "cuda":
                self.tensors = dist.new_group(backend="nccl", timeout=SILENCE)

    def maximum(self, *numbers: int) -> tuple[int, ...]:
        """The largest of each whole number over all processes."""
        if self.size == 1:
            return numbers
        largest = torch.tensor(numbers)
        dist.all_reduce(largest, dist.ReduceOp.MAX, group=self.hosts)
        return tuple(largest.tolist())

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value, on all processes."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def on_all(self, action: Callable[[], Any]) -> Any:
        """action() -> its result, after all processes have called theirs.

        If it fails in one process, it fails in all: with its own exception there, and with Interrupted or a
        UserError of the same line elsewhere. So no process waits for one that has stopped.
        """
        if self.size == 1:
            return action()
        error = result = message = None
        try:
            result = action()
        except Interrupted as interruption:
            error = interruption
            message = interruption.args[0]
        except Exception as problem:
            error = problem
            message = in_one_line(problem)
        messages = [None] * self.size
        dist.all_gather_object(messages, message)
        if error is not None:
            raise error
        message = next((m for m in messages if m is not None), None)
        if message is not None:
            raise Interrupted(message) if isinstance(message, int) else UserError(message)
        return result

    def on_rank_0(self, action: Callable[[], Any]) -> Any:
        """The result of action() on rank 0, None on the others, which wait for it."""
        return self.on_all(action if self.is_rank_0 else lambda: None)

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Raise LostProcess if a connection to another process breaks."""
        try:
            yield
        except RuntimeError as error:  # gloo has no exception of its own
            text = str(error).lower()
            gone = isinstance(error, dist.DistError) or any(
                w in text for w in ("gloo", "connection", "timed out", "socket")
            )
            if self.size == 1 or not gone:
                raise
            self.complete = False
            raise LostProcess("another process of this run was lost") from None

    def leave(self) -> None:
        """Wait for the others for a moment: torchrun ends all as soon as one fails, and one may still have to print."""
        if self.size > 1:
            with contextlib.suppress(RuntimeError):
                if self.complete:
                    dist.monitored_barrier(timeout=LEAVE_TOGETHER)
                dist.destroy_process_group()


SINGLE_PROCESS = ProcessGroup()


def join(signals: StopWhenSafe) -> ProcessGroup:
    """The group of a process that torchrun started; `SINGLE_PROCESS` without torchrun.

    Reports what it waits for; a signal ends the process meanwhile. Raises UserError if the others cannot be found.
    """
    size = world_size()
    if size == 1:
        return SINGLE_PROCESS
    reminder = threading.Timer(REPORT_WAITING, _report_waiting, [size])
    reminder.daemon = True
    reminder.start()
    try:
        with signals.nothing_to_save():
            dist.init_process_group("gloo", timeout=SILENCE)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the processes of this run did not find one another ({in_one_line(error)[:200]})") from None
    finally:
        reminder.cancel()
    return ProcessGroup(dist.get_rank(), dist.get_world_size())


def _report_waiting(size: int) -> None:
    """One line, from every process: rank 0 may be the one that is missing."""
    e = os.environ
    others = "1 more process" if size == 2 else f"up to {size - 1} more processes"
    address = f"{e['MASTER_ADDR']}:{e.get('MASTER_PORT')}"
    variables = f"RANK {e['RANK']} of WORLD_SIZE {size} in the environment; unset them to train with one process"
    print(f"train.py: waiting for {others} at {address} ({variables})", file=sys.__stderr__, flush=True)


def end(code: int) -> None:
    """End this process with an exit code, after `ProcessGroup.leave`.

    Gloo's threads outlive their group. One that frees a tensor while the interpreter shuts down aborts the process
    (https://github.com/pytorch/pytorch/issues/190489), so a process of a group skips the shutdown; all is written by now.
    """
    if "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
