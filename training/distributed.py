"""Several processes train one model: whose share of a batch is whose, what they tell one another, how they end together.

    torchrun --nproc_per_node=2 train.py --preset quick

`--batch_size` is that of all processes together. Every process draws the same batch of sentences, padded to the longest
of all, and takes its own slice of the rows. Losses that compare sentences see the features of the whole batch. So
1 process with 64 sentences and 2 with 32 each have in common, step for step: the sentences, the learning rate, the
severity of the channel, which sentence is worn in which way and how hard, and, but for rounding, the gradient. The
noise of single pictures, latents and hidden words comes from a stream of each process's own, and differs.

A batch that cannot be divided evenly (the last of an epoch) is done in full by every process: nothing is gained
on it, and nothing is lost.
"""

import contextlib
import os
import sys
import warnings
from datetime import timedelta

import torch
import torch.distributed as dist

from command_line import UserError, in_one_line
from devices import choose_device
from training.signals import Interrupted

# A process that dies is noticed at once, because its connections close. These are for a machine that falls silent, and
# for a rare moment in which gloo loses the news: the peer asks for a message and dies before it is written. Within a step
# nobody is a minute behind another; a validation or a save, which the others wait for, may take longer.
SILENCE = timedelta(minutes=10)
SILENCE_IN_A_STEP = timedelta(minutes=1)
LEAVE_TOGETHER = timedelta(seconds=10)


class Lost(Exception):
    """Another process of the run is gone."""


def world_size():
    """How many processes torchrun started for this run; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "MASTER_ADDR" in os.environ and "RANK" in os.environ else 1


@contextlib.contextmanager
def only_the_first_speaks():
    """The same line, warning or bar from each process would be noise: all but the first write to nowhere.

    An exception that nobody catches leaves this block first, so its traceback is seen from any process.
    """
    if world_size() == 1 or os.environ["RANK"] == "0":
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


class _Gather(torch.autograd.Function):
    """(1, n) of each process -> (size, n), in the order of the processes.

    Back comes this process's own slice of the gradient, times their number: each process has the gradient of the
    whole loss with respect to its own rows, and DistributedDataParallel takes the mean where the sum is wanted.
    """

    @staticmethod
    def forward(ctx, mine, team):
        ctx.team, parts = team, [torch.empty_like(mine) for _ in range(team.size)]
        dist.all_gather(parts, mine.contiguous(), group=team.group)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.team.size * ctx.team.part(gradient), None


class Team:
    """The processes of a run, seen from one of them. `ALONE` is a run of one process, in which everything here is free."""

    def __init__(self, rank=0, size=1):
        self.rank, self.size, self.first = rank, size, rank == 0
        self.whole = True  # nobody was lost
        self.group = None  # of the tensors of a step
        self.hosts = None  # of the numbers that the hosts agree on before each step, by gloo; all else takes the default group

    # What a step needs

    def part(self, rows):
        """This process's rows: (b * size, ...) -> (b, ...)."""
        share = len(rows) // self.size
        return rows[self.rank * share : (self.rank + 1) * share]

    def gather(self, *tensors):
        """The rows of all processes: each (b, ...) -> (b * size, ...) float32; gradients flow to the own ones (see
        `_Gather`). All in one message, since every message waits for the slowest."""
        if self.size == 1:
            return tensors
        everyone = _Gather.apply(torch.cat([t.float().flatten() for t in tensors])[None], self)  # (size, numbers of all tensors)
        parts = everyone.split([t.numel() for t in tensors], 1)
        return [part.unflatten(1, t.shape).flatten(0, 1) for part, t in zip(parts, tensors)]

    def mean(self, values):
        """The mean of a tensor over all processes, without gradient."""
        if self.size == 1:
            return values
        values = values.clone()
        dist.all_reduce(values, group=self.group)
        return values / self.size

    def parallel(self, module, **options):
        """The module with gradients averaged over all processes, starting from the first one's weights."""
        if self.size == 1:
            return module
        options = dict(broadcast_buffers=False, gradient_as_bucket_view=True, process_group=self.group, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # newer versions have another name for broadcast_buffers
            return torch.nn.parallel.DistributedDataParallel(module, **options)

    # What a run needs

    def device(self, name):
        """--device -> torch.device, a GPU of its own for each process. Raises ValueError, UserError."""
        device, here = choose_device(name), int(os.environ.get("LOCAL_RANK", 0))
        if self.size > 1 and device.type == "cuda" and device.index is None:
            if here >= torch.cuda.device_count():
                raise UserError(
                    f"this machine has {torch.cuda.device_count()} GPU(s); start one process for each, or use --device cpu"
                )
            device = torch.device("cuda", here)
            torch.cuda.set_device(device)
        return device

    def connect(self, device):
        """Let the tensors of a step travel between devices of this kind."""
        if self.size > 1:
            self.hosts = self.group = dist.new_group(backend="gloo", timeout=SILENCE_IN_A_STEP)
            if device.type == "cuda":
                self.group = dist.new_group(backend="nccl", timeout=SILENCE)

    def agree(self, *numbers):
        """The largest of each whole number that the processes name."""
        if self.size == 1:
            return numbers
        largest = torch.tensor(numbers)
        dist.all_reduce(largest, dist.ReduceOp.MAX, group=self.hosts)
        return largest.tolist()

    def tell(self, value):
        """The first process's value, on all of them."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def together(self, action):
        """action() -> its result, once all processes have done theirs.

        If it fails on one of them, it fails on all: with its own exception there, and with Interrupted or a
        UserError of the same line elsewhere. So nobody waits for one that has given up.
        """
        if self.size == 1:
            return action()
        error = result = said = None
        try:
            result = action()
        except Exception as problem:
            error, said = problem, problem.args[0] if isinstance(problem, Interrupted) else in_one_line(problem)
        everyone = [None] * self.size
        dist.all_gather_object(everyone, said)
        if error is not None:
            raise error
        said = next((s for s in everyone if s is not None), None)
        if said is not None:
            raise Interrupted(said) if isinstance(said, int) else UserError(said)
        return result

    def first_does(self, action):
        """The result of action() on the first process, None on the others, which wait for it."""
        return self.together(action if self.first else lambda: None)

    @contextlib.contextmanager
    def watch(self):
        """Raise Lost where a connection to another process breaks."""
        try:
            yield
        except RuntimeError as error:  # gloo has no exception of its own
            text = str(error).lower()
            gone = isinstance(error, dist.DistError) or any(w in text for w in ("gloo", "connection", "timed out", "socket"))
            if self.size == 1 or not gone:
                raise
            self.whole = False
            raise Lost("another process of this run was lost") from None

    def leave(self):
        """Wait for the others for a moment: torchrun ends all as soon as one fails, and one may still have a word to say."""
        if self.size > 1:
            with contextlib.suppress(RuntimeError):
                if self.whole:
                    dist.monitored_barrier(timeout=LEAVE_TOGETHER)
                dist.destroy_process_group()


def end(code):
    """End this process with an exit code, after `Team.leave`.

    Gloo's threads outlive their group. One that lets go of a tensor while the interpreter shuts down aborts the process
    (https://github.com/pytorch/pytorch/issues/190489), so a process of a team ends without that; all is written by now.
    """
    if world_size() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


ALONE = Team()


def join():
    """The team of a process that torchrun started; `ALONE` without torchrun. Raises UserError if the others cannot be found."""
    if world_size() == 1:
        return ALONE
    try:
        dist.init_process_group("gloo", timeout=SILENCE)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the processes of this run did not find one another ({in_one_line(error)[:200]})") from None
    return Team(dist.get_rank(), dist.get_world_size())
