"""AdamW with what a training run needs around it: a schedule, clipping, half precision, several processes, and a guard
against numbers that are not finite."""

import math

import torch

from runtime.devices import tf32
from training.distributed import SINGLE_PROCESS

WEIGHT_DECAY = 0.01  # of matrices; biases, norms and gains have none
BETAS = (0.9, 0.98)
FINAL_RATE = 0.02  # share of the highest learning rate at the end of a run
# Devices on which torch's fused AdamW divides gradients by `grad_scale` and leaves everything as it is where `found_inf` is 1.
# That of Apple's GPUs takes both and ignores them, without a word.
CLIPS_AND_SKIPS = ("cpu", "cuda")


def warmup_cosine(step, total, warmup_steps):
    """Share of the highest learning rate: linear warm-up, then a cosine to FINAL_RATE (Loshchilov & Hutter 2017)."""
    warm = min(1.0, (step + 1) / max(1, warmup_steps))
    return warm * (FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, total)))))


def total_norm(tensors):
    """The Euclidean norm of all numbers in some tensors together. On the CPU dot products take half the time of torch's own."""
    if tensors[0].device.type != "cpu":
        return torch.nn.utils.get_total_norm(tensors)
    return torch.stack([torch.dot(t, t) for t in (t.flatten() for t in tensors)]).sum().sqrt()


class Optimizer:
    """Minimizes a loss over the parameters of a module on a device; `dtype` is the half precision of the forward pass or None."""

    def __init__(self, module, settings, total_steps, device, dtype, group=SINGLE_PROCESS):
        self.parameters = list(module.parameters())
        self.settings, self.total_steps, self.device, self.group = settings, total_steps, device, group
        matrices = [p for p in self.parameters if p.ndim >= 2]
        rest = [p for p in self.parameters if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": rest, "weight_decay": 0.0}]
        self.adamw = torch.optim.AdamW(groups, lr=settings.lr, betas=BETAS, fused=True)
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)

    def learning_rate(self, step):
        return self.settings.lr * warmup_cosine(step, self.total_steps, self.settings.warmup_steps)

    def set_learning_rate(self, step):
        for parameters in self.adamw.param_groups:
            parameters["lr"] = self.learning_rate(step)

    def step(self, loss, parts):
        """Backward pass, clipping and AdamW; loss is the weighted sum of `parts`, {name: 0-dim tensor}.

        Returns the parts, detached, and 1.0 if a number was not finite and nothing was changed, else 0.0; all 0-dim, on the
        device. Processes of a group use the mean of their gradients, and decide alike; the parts are means over the group,
        too. All messages are exchanged before the weights change, so that a lost process leaves them as they were.
        """
        self.adamw.zero_grad(set_to_none=True)
        with tf32(self.device):
            self.scaler.scale(loss).backward()
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        values = torch.stack([value.detach().float() for value in (loss, *parts.values())])
        values = self.group.average_in_place(values, gradients)
        self.scaler.unscale_(self.adamw)
        norm = total_norm(gradients)
        skipped = 1 - torch.isfinite(norm * values[0]).float()
        excess = (norm / self.settings.clip).clamp(min=1) if self.settings.clip else None
        if self.device.type in CLIPS_AND_SKIPS:
            self._step_in_one_pass(excess, skipped)
        else:
            self._step_in_several(gradients, excess, skipped)
        self.scaler.update()
        return dict(zip(parts, values[1:].unbind())), skipped

    def _step_in_one_pass(self, excess, skipped):
        """AdamW with gradients divided by `excess` as they are read, and without effect where `skipped` is 1."""
        if excess is not None:
            self.adamw.grad_scale = excess
        if not self.scaler.is_enabled():
            self.adamw.found_inf = skipped
        self.scaler.step(self.adamw)

    def _step_in_several(self, gradients, excess, skipped):
        """The same for an optimizer that cannot do it by itself: divide, step, and undo the step where `skipped` is 1.

        The host never learns which it was, so it need not wait for the device.
        """
        if excess is not None:
            torch._foreach_div_(gradients, excess)
        state, undo = self.adamw.state, skipped > 0
        weights = [p.detach().clone() for p in self.parameters]
        former = [{name: t.clone() for name, t in state.get(p, {}).items()} for p in self.parameters]
        self.scaler.step(self.adamw)
        with torch.no_grad():
            for p, weight, of_p in zip(self.parameters, weights, former):
                p.copy_(torch.where(undo, weight, p))
                for name, t in state.get(p, {}).items():  # what the first step adds begins at zero
                    t.copy_(torch.where(undo, of_p.get(name, torch.zeros_like(t)), t))

    def state_dict(self):
        return {"optimizer": self.adamw.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state):
        self.adamw.load_state_dict(state["optimizer"])
        if state["scaler"]:  # empty if the run was last on a machine that has no use for one
            self.scaler.load_state_dict(state["scaler"])
