"""Several processes train one model: how they share a batch, what they exchange, how they end together.

    torchrun --nproc_per_node=2 train.py --preset quick

`--batch_size` is that of all processes together. Every process draws the same global batch of sentences, padded to its
longest, and takes its own slice of the rows. Losses that compare sentences see the features of the global batch. So
1 process with 64 sentences and 2 with 32 each have in common, step for step: the sentences, the learning rate, the
severity of the channel, which sentence gets which corruption and how much of it, and, but for rounding, the gradient. The
noise of single pictures, latents and hidden words comes from a generator of each process's own, and differs.

A batch that cannot be divided evenly (the last of an epoch) is computed in full by every process: nothing is gained
on it, and nothing is lost.
"""

import contextlib
import os
import sys
from datetime import timedelta

import torch
import torch.distributed as dist

from runtime.command_line import UserError, in_one_line
from runtime.devices import choose_device
from runtime.signals import Interrupted
from text.vocabulary import PAD

# A process that dies is noticed at once, because its connections close. These are for a machine that falls silent, and
# for a rare moment in which gloo loses the news: the peer asks for a message and dies before it is written. Within a step
# no process is a minute behind another; a validation or a save, which the others wait for, may take longer.
SILENCE = timedelta(minutes=10)
SILENCE_IN_A_STEP = timedelta(minutes=1)
LEAVE_TOGETHER = timedelta(seconds=10)


class LostProcess(UserError):
    """Another process of the run is gone."""


def world_size():
    """How many processes torchrun started for this run; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "MASTER_ADDR" in os.environ and "RANK" in os.environ else 1


@contextlib.contextmanager
def only_rank_0_prints():
    """The same line, warning or bar from each process would be noise: all but rank 0 write to nowhere.

    An exception that nobody catches leaves this block first, so its traceback is seen from any process.
    """
    if world_size() == 1 or os.environ["RANK"] == "0":
        yield
        return
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


class _Gather(torch.autograd.Function):
    """(1, n) of each process -> (size, n), in the order of the ranks.

    Back comes this process's own slice of the gradient, times their number: each process has the gradient of the
    whole loss with respect to its own rows, and `average_in_place` takes the mean where the sum is wanted.
    """

    @staticmethod
    def forward(ctx, local, group):
        ctx.group, parts = group, [torch.empty_like(local) for _ in range(group.size)]
        dist.all_gather(parts, local.contiguous(), group=group.tensors)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.group.size * ctx.group.local_rows(gradient), None


class ProcessGroup:
    """The processes of a run, seen from one of them. `SINGLE_PROCESS` is a run of one, in which everything here is free."""

    def __init__(self, rank=0, size=1):
        self.rank, self.size, self.is_rank_0 = rank, size, rank == 0
        self.complete = True  # no process was lost
        self.tensors = None  # the torch group of the tensors of a step
        self.hosts = (
            None  # that of the numbers that the hosts agree on before each step, by gloo; all else takes the default
        )

    # What a step needs

    def local_rows(self, rows):
        """This process's rows of the global batch: (b * size, ...) -> (b, ...)."""
        share = len(rows) // self.size
        return rows[self.rank * share : (self.rank + 1) * share]

    def first_row(self, rows):
        """The number of this process's first row in the global batch."""
        return self.rank * (len(rows) // self.size)

    def share_of_words(self, local, ids):
        """Weight of a mean over this process's words, so that a word counts the same in every process's sentences;
        local (b, T), ids (b * size, T), padded with PAD."""
        return self.size * (local != PAD).sum() / (ids != PAD).sum() if self.size > 1 else 1

    def gather(self, **tensors):
        """The rows of all processes by name: each (b, ...) -> (b * size, ...) float32; gradients flow to the own ones (see
        `_Gather`). All in one message, since every message waits for the slowest process."""
        if self.size == 1:
            return tensors
        numbers = torch.cat([t.float().flatten() for t in tensors.values()])[None]
        parts = _Gather.apply(numbers, self).split(
            [t.numel() for t in tensors.values()], 1
        )  # (size, numbers of a tensor)
        return {name: part.unflatten(1, t.shape).flatten(0, 1) for (name, t), part in zip(tensors.items(), parts)}

    def average_in_place(self, values, gradients):
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

    def device(self, name):
        """--device -> torch.device, a GPU of its own for each process. Raises ValueError, UserError."""
        device, local_rank = choose_device(name), int(os.environ.get("LOCAL_RANK", 0))
        if self.size > 1 and device.type == "cuda" and device.index is None:
            if local_rank >= torch.cuda.device_count():
                raise UserError(
                    f"this machine has {torch.cuda.device_count()} GPU(s); start one process for each, or use --device cpu"
                )
            device = torch.device("cuda", local_rank)
            torch.cuda.set_device(device)
        return device

    def connect(self, device):
        """Let the tensors of a step travel between devices of this kind."""
        if self.size > 1:
            self.hosts = self.tensors = dist.new_group(backend="gloo", timeout=SILENCE_IN_A_STEP)
            if device.type == "cuda":
                self.tensors = dist.new_group(backend="nccl", timeout=SILENCE)

    def maximum(self, *numbers):
        """The largest of each whole number over all processes."""
        if self.size == 1:
            return numbers
        largest = torch.tensor(numbers)
        dist.all_reduce(largest, dist.ReduceOp.MAX, group=self.hosts)
        return largest.tolist()

    def broadcast(self, value):
        """Rank 0's value, on all processes."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def on_all(self, action):
        """action() -> its result, once all processes have done theirs.

        If it fails on one of them, it fails on all: with its own exception there, and with Interrupted or a
        UserError of the same line elsewhere. So no process waits for one that has stopped.
        """
        if self.size == 1:
            return action()
        error = result = message = None
        try:
            result = action()
        except Exception as problem:
            error, message = problem, problem.args[0] if isinstance(problem, Interrupted) else in_one_line(problem)
        messages = [None] * self.size
        dist.all_gather_object(messages, message)
        if error is not None:
            raise error
        message = next((m for m in messages if m is not None), None)
        if message is not None:
            raise Interrupted(message) if isinstance(message, int) else UserError(message)
        return result

    def on_rank_0(self, action):
        """The result of action() on rank 0, None on the others, which wait for it."""
        return self.on_all(action if self.is_rank_0 else lambda: None)

    @contextlib.contextmanager
    def watch(self):
        """Raise LostProcess where a connection to another process breaks."""
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

    def leave(self):
        """Wait for the others for a moment: torchrun ends all as soon as one fails, and one may still have something to print."""
        if self.size > 1:
            with contextlib.suppress(RuntimeError):
                if self.complete:
                    dist.monitored_barrier(timeout=LEAVE_TOGETHER)
                dist.destroy_process_group()


def end(code):
    """End this process with an exit code, after `ProcessGroup.leave`.

    Gloo's threads outlive their group. One that lets go of a tensor while the interpreter shuts down aborts the process
    (https://github.com/pytorch/pytorch/issues/190489), so a process of a group ends without that; all is written by now.
    """
    if world_size() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


SINGLE_PROCESS = ProcessGroup()


def join():
    """The group of a process that torchrun started; `SINGLE_PROCESS` without torchrun. Raises UserError if the others cannot
    be found."""
    if world_size() == 1:
        return SINGLE_PROCESS
    try:
        dist.init_process_group("gloo", timeout=SILENCE)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the processes of this run did not find one another ({in_one_line(error)[:200]})") from None
    return ProcessGroup(dist.get_rank(), dist.get_world_size())
