"""One training step, and everything that a checkpoint must bring back to repeat it exactly.

A step reads from top to bottom: text -> scene -> channel -> caption -> losses (`circle_losses`), then
gradients, clipping and the optimiser (`Trainer.train_step`).
"""

import math
import time

import numpy as np
import torch

import losses
from channel import transmit
from checkpoints import CheckpointError, model_state
from command_line import in_one_line
from data_utils import PAD, CaptionsData
from devices import amp_dtype, keep_memory, tf32
from models import Circle
from training.distributed import ALONE

SEVERITY_RATE, COPES = 0.004, 0.3  # the channel hardens by this per step while the reader's loss (nats) is below


def circle_losses(circle, settings, everyone, severity, rng, host_rng, dtype, team=ALONE):
    """One batch around the circle: word numbers (B, T) -> dict of unweighted losses, each a 0-dim tensor.

    Each process of a team does its part of the batch. Losses that compare sentences are of the whole batch; the mean
    of the others over the team is.
    """
    s, vocab_size = settings, circle.language_model.embedding.num_embeddings
    ids = team.part(everyone)
    with torch.autocast(ids.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
        with tf32(ids.device):
            text = circle.language_model(ids, rng)
        scene = circle.scene_decoder(text, ids != PAD, rng)
        layered = scene.masks is not None
        if s.channel:
            compose = circle.scene_decoder.compose if layered else None
            arrived = transmit(scene, severity, rng, host_rng, compose, first=team.rank * len(ids))
        else:
            arrived = transmit(scene, severity, rng, host_rng, wear=("none",))
        with tf32(ids.device):
            caption, seen = circle.caption_network(arrived, ids, s.word_dropout, rng)

    compared = [seen, text.sentence, losses.thumbnails(scene.picture), losses.outlines(scene.picture)]
    if layered:
        word, _, weight = losses.shown_words(scene.attention, scene.presence, ids)
        masks = losses.word_sums(scene.masks.flatten(0, 1) * weight[:, None, None], word, vocab_size)
        compared += [scene.attention, scene.preference, scene.presence, scene.colors, masks[None]]
    else:
        compared += [scene.picture.float().mean((2, 3))]
    seen, sentence, thumbnails, outlines, *marks = team.gather(*compared)
    targets, distance = losses.targets_of(ids), losses.word_distance(everyone, vocab_size)

    def share(mine, all_of_them):
        """A word counts the same in whichever process's sentences it stands."""
        return team.size * (mine != PAD).sum() / (all_of_them != PAD).sum() if team.size > 1 else 1

    of_targets, of_words = share(targets, losses.targets_of(everyone)), share(ids, everyone)
    out = {
        "caption": losses.word_loss(caption, targets) * of_targets,
        "language": losses.word_loss(text.logits, targets) * of_targets + losses.word_loss(text.cloze, ids) * of_words,
        "consistency": losses.consistency_loss(seen, sentence),
        "kl": losses.kl_loss(scene.kl) if s.use_vae else scene.kl.sum() * 0,
        "spatial": losses.spatial_loss(scene.picture),
        "diversity": losses.diversity_loss(thumbnails, distance),
        "perceptual": losses.perceptual_loss(outlines, distance),
    }
    if layered:
        attention, preference, presence, colors, masks = marks
        word, place, weight = losses.shown_words(attention, presence, everyone)
        rivalry = losses.rivals(word, place, weight, vocab_size, attention.shape[1])
        out["layout"] = losses.layout_loss(torch.stack([attention, preference]), everyone, vocab_size).sum()
        lab, ground = losses.srgb_to_lab(torch.cat([colors.flatten(0, 1), scene.ground[None]])).split([len(word), 1])
        out["color"] = losses.color_loss(lab, word, weight, ground, vocab_size, rivalry)
        total = losses.word_sums(weight, word, vocab_size)
        silhouettes = losses.silhouettes_of_words(masks.sum(0), total)
        out["perceptual"] = out["perceptual"] + losses.shape_loss(silhouettes, total, rivalry)
        out["perceptual"] = out["perceptual"] + 10 * losses.likeness_loss(lab, silhouettes, word, weight, vocab_size, rivalry)
    else:  # a picture's mean colour stands for each of its words
        words = everyone.flatten()
        mean = marks[0].repeat_interleave(everyone.shape[1], 0)
        out["color"] = losses.color_loss(losses.srgb_to_lab(mean), words, (words != PAD).float(), None, vocab_size)
    return out


def weighted(parts, settings):
    """The sum that is minimised."""
    return sum(getattr(settings, f"lambda_{name}") * value for name, value in parts.items())


def learning_rate(step, total, settings):
    """Linear warm-up, then a cosine to 2 % (Loshchilov & Hutter 2017)."""
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    return settings.lr * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, total)))))


def total_norm(tensors):
    """The Euclidean norm of all numbers in some tensors together. On the CPU dot products take half the time of torch's own."""
    if tensors[0].device.type != "cpu":
        return torch.nn.utils.get_total_norm(tensors)
    return torch.stack([torch.dot(t, t) for t in (t.flatten() for t in tensors)]).sum().sqrt()


class Step(torch.nn.Module):
    """`circle_losses` as a module, which is what DistributedDataParallel takes."""

    def __init__(self, circle, settings, dtype):
        super().__init__()
        self.circle, self.settings, self.dtype = circle, settings, dtype

    def forward(self, ids, severity, rng, host_rng, team):
        return circle_losses(self.circle, self.settings, ids, severity, rng, host_rng, self.dtype, team)


class Trainer:
    """Model, optimiser and everything that a checkpoint must bring back. Raises ValueError for a batch that the
    processes of a team cannot divide."""

    def __init__(self, settings, data, device, team=ALONE):
        if settings.batch_size % team.size:
            raise ValueError(f"--batch_size {settings.batch_size} cannot be divided evenly among {team.size} processes")
        self.settings, self.data, self.device, self.team = settings, data, device, team
        keep_memory()
        torch.manual_seed(settings.seed)  # initial weights only; every later draw has its own generator
        self.circle = Circle(settings, len(data.vocab), data.max_words).to(device)
        decay = [p for p in self.circle.parameters() if p.ndim >= 2]
        rest = [p for p in self.circle.parameters() if p.ndim < 2]
        groups = [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.98), fused=True)
        self.dtype = amp_dtype(device) if settings.use_amp else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype is torch.float16)
        # The plain decoder has no use for the language model's roles.
        self.losses_of = team.parallel(Step(self.circle, settings, self.dtype), find_unused_parameters=settings.decoder == "conv")
        self.rng = torch.Generator(device)
        self.severity = torch.zeros((), device=device)
        self.bad = torch.zeros(2, device=device)  # non-finite steps: in a row, in all
        self.epoch = self.batch = self.step = 0
        self.sums = torch.zeros((), device=device)  # of each loss over the good steps since the last report, and their number
        self.best, self.seconds, self.history, self.saved_at = -1.0, 0.0, [], 0.0
        self.per_epoch = -(-data.num_samples // settings.batch_size)
        self.total = self.per_epoch * settings.epochs

    def compile(self):
        """Compile what is many small operations (--compile) -> None, or in one line why everything stays as it is.

        The first steps wait for the compiler. A part that it cannot cope with runs as it is.
        """
        try:
            torch.compile(torch.exp)(torch.ones(2, device=self.device))  # shows whether there is a compiler at all
        except Exception as error:  # torch names no common class for what a compiler can fail with
            return in_one_line(error)
        torch._dynamo.config.suppress_errors = True
        parts = [self.circle.scene_decoder.shapes] if hasattr(self.circle.scene_decoder, "shapes") else []
        if self.device.type == "cuda":  # on the CPU it gained nothing
            parts += self.circle.language_model.blocks
        for part in parts:
            part.compile(dynamic=True)  # sentences differ in length

    def train_step(self):
        """One batch, drawn and learned from. Returns the unweighted losses, still on the device."""
        s, ids = self.settings, self.data.batch(self.epoch, self.batch, self.settings.batch_size)
        team = self.team if len(ids) % self.team.size == 0 else ALONE  # each does all of a batch that cannot be divided
        ids = ids.to(self.device, non_blocking=True)
        host_rng = np.random.default_rng([s.seed, self.epoch, self.batch, 0xC4])
        self.rng.manual_seed(int(host_rng.integers(1 << 62)) + team.rank)  # every step's noise follows from its position
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.total, s)
        parts = self.losses_of(ids, self.severity, self.rng, host_rng, team)
        self.optimizer.zero_grad(set_to_none=True)
        loss = weighted(parts, s)
        with tf32(self.device):
            self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = total_norm([p.grad for p in self.circle.parameters() if p.grad is not None])
        values = torch.stack([v.detach().float() for v in (loss, *parts.values(), torch.ones_like(loss))])
        values = self.team.mean(values)  # all processes decide alike
        parts = dict(zip(parts, values[1:-1].unbind(), strict=True))
        bad = 1 - torch.isfinite(norm * values[0]).float()
        if s.clip:  # the fused optimiser divides gradients by this as it reads them, without a pass of their own
            self.optimizer.grad_scale = (norm / s.clip).clamp(min=1)
        if not self.scaler.is_enabled():
            self.optimizer.found_inf = bad  # the fused optimiser leaves everything as it is where this is 1
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.bad = torch.stack([(self.bad[0] + 1) * bad, self.bad[1] + bad])
        self.sums = self.sums + torch.where(bad > 0, 0, values[1:])
        self.severity = (self.severity + SEVERITY_RATE * (parts["caption"] < COPES)).clamp(max=1)
        self.step, self.batch = self.step + 1, self.batch + 1
        if self.batch == self.per_epoch:
            self.epoch, self.batch = self.epoch + 1, 0
        return parts

    def state(self):
        """Everything that an exact resume needs, in plain types and tensors."""
        self.saved_at = max(time.time(), self.saved_at + 1e-3)  # grows even where a clock was set back
        return {
            **model_state(self.circle, self.data.vocab, self.settings),
            "data": data_digest(self.data),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "position": {"epoch": self.epoch, "batch": self.batch, "step": self.step},
            "severity": float(self.severity),
            "bad": self.bad.tolist(),
            "sums": self.sums.tolist(),
            "best": self.best,
            "seconds": self.seconds,
            "history": self.history,
            "saved_at": self.saved_at,
        }

    def restore(self, state, path):
        """Take over a checkpoint's state. Raises CheckpointError."""
        try:
            self.circle.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if state["scaler"]:  # empty if the run was last on a machine that has no use for one
                self.scaler.load_state_dict(state["scaler"])
            self.epoch, self.batch, self.step = (int(state["position"][k]) for k in ("epoch", "batch", "step"))
            if self.step != self.epoch * self.per_epoch + self.batch or not 0 <= self.batch < self.per_epoch:
                raise ValueError(f"step {self.step} is not batch {self.batch} of epoch {self.epoch}")
            self.severity.fill_(state["severity"])
            self.bad = torch.tensor(state["bad"], device=self.device)
            self.sums = torch.tensor(state["sums"], device=self.device)
            self.best, self.seconds, self.saved_at = (float(state[k]) for k in ("best", "seconds", "saved_at"))
            self.history = [row for row in state["history"] if row["step"] <= self.step and row["kind"]]
        except Exception as error:  # whatever a file made by somebody else leads to
            reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
            raise CheckpointError(f"{path} cannot be resumed ({reason}); take another checkpoint of its folder") from None


def data_digest(data):
    """A hash of a captions file's sentences, so that a resumed run notices another file; "" for the grammar."""
    return data.digest if isinstance(data, CaptionsData) else ""
