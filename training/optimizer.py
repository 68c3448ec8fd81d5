"""AdamW with a schedule, clipping, half precision, several processes, and a guard against non-finite values."""

import math
from typing import Any

import torch

from runtime.devices import tf32
from settings import Settings
from training.distributed import SINGLE_PROCESS, ProcessGroup

WEIGHT_DECAY = 0.01  # of matrices; biases, norms and gains have none
BETAS = (0.9, 0.98)
FINAL_RATE = 0.02  # share of the highest learning rate at the end of a run
# Devices on which torch's fused AdamW divides gradients by `grad_scale` and changes nothing if `found_inf` is 1.
# MPS accepts both and silently ignores them.
CLIPS_AND_SKIPS = ("cpu", "cuda")


def warmup_cosine(step: int, total: int, warmup_steps: int) -> float:
    """Share of the highest learning rate: linear warm-up, then a cosine to FINAL_RATE (Loshchilov & Hutter 2017)."""
    warm = min(1.0, (step + 1) / max(1, warmup_steps))
    return warm * (FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, total)))))


def total_norm(tensors: list[torch.Tensor]) -> torch.Tensor:
    """The Euclidean norm of all tensors together, 0-dim. On the CPU, dot products take half the time of torch's own."""
    if tensors[0].device.type != "cpu":
        return torch.nn.utils.get_total_norm(tensors)
    return torch.stack([torch.dot(t, t) for t in (t.flatten() for t in tensors)]).sum().sqrt()


class Optimizer:
    """Minimizes a loss over the parameters of a module on a device.

    dtype: the half precision of the forward pass, or None.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        settings: Settings,
        total_steps: int,
        device: torch.device,
        dtype: torch.dtype | None,
        group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.parameters = list(module.parameters())
        self.settings = settings
        self.total_steps = total_steps
        self.device = device
        self.group = group
        matrices = [p for p in self.parameters if p.ndim >= 2]
        rest = [p for p in self.parameters if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": rest, "weight_decay": 0.0}]
        self.adamw = torch.optim.AdamW(groups, lr=settings.lr, betas=BETAS, fused=True)
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step."""
        return self.settings.lr * warmup_cosine(step, self.total_steps, self.settings.warmup_steps)

    def set_learning_rate(self, step: int) -> None:
        """Use the learning rate of a step."""
        for parameters in self.adamw.param_groups:
            parameters["lr"] = self.learning_rate(step)

    def step(self, loss: torch.Tensor, parts: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Backward pass, clipping and AdamW; loss is the weighted sum of `parts`, {name: 0-dim tensor}.

        Returns the parts, detached, and 1.0 if a value was not finite and the step was skipped, else 0.0; all 0-dim, on
        the device. Processes of a group use the mean of their gradients, and the parts are means over the group, so all
        skip the same steps. Messages are exchanged before the weights change: a lost process leaves them unchanged.
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

    def _step_in_one_pass(self, excess: torch.Tensor | None, skipped: torch.Tensor) -> None:
        """AdamW that divides gradients by `excess`, and changes nothing if `skipped` is 1."""
        if excess is not None:
            self.adamw.grad_scale = excess
        if not self.scaler.is_enabled():
            self.adamw.found_inf = skipped
        self.scaler.step(self.adamw)

    def _step_in_several(
        self, gradients: list[torch.Tensor], excess: torch.Tensor | None, skipped: torch.Tensor
    ) -> None:
        """The same for other devices: divide, step, and undo the step if `skipped` is 1.

        The value stays on the device, so that the host does not wait for it.
        """
        if excess is not None:
            torch._foreach_div_(gradients, excess)
        state = self.adamw.state
        undo = skipped > 0
        weights = [p.detach().clone() for p in self.parameters]
        former = [{name: t.clone() for name, t in state.get(p, {}).items()} for p in self.parameters]
        self.scaler.step(self.adamw)
        with torch.no_grad():
            for p, weight, of_p in zip(self.parameters, weights, former):
                p.copy_(torch.where(undo, weight, p))
                for name, t in state.get(p, {}).items():  # moments that the first step adds begin at zero
                    t.copy_(torch.where(undo, of_p.get(name, torch.zeros_like(t)), t))

    def state_dict(self) -> dict[str, Any]:
        """The state of AdamW and of the gradient scaler, for a checkpoint."""
        return {"optimizer": self.adamw.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.adamw.load_state_dict(state["optimizer"])
        if state["scaler"]:  # empty if the run was last on a device without fp16
            self.scaler.load_state_dict(state["scaler"])
