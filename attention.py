"""Attention for short sequences, as the language model and the captioner use it."""

import math

import torch


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax(q k' / sqrt(d) + mask) v for short sequences: (N, queries, d), twice (N, keys, d), mask (keys, queries)
    -> result (N, queries, d), weights (N, keys, queries) float32, under autocast too.

    Written out because the fused CPU kernel's backward in bf16 takes five times as long at these lengths. Keys come
    first because a softmax over a last dimension of fewer than 16 takes four times as long.
    """
    logits = torch.bmm(k, q.transpose(1, 2)).float()
    scale = 1 / math.sqrt(q.shape[-1])
    logits = logits * scale if mask is None else torch.add(mask, logits, alpha=scale)
    weights = logits.softmax(1)
    return torch.bmm(weights.to(v.dtype).transpose(1, 2), v), weights


def split_heads(x: torch.Tensor, heads: int, parts: int = 1) -> torch.Tensor:
    """(B, T, parts x heads x d) -> (parts, B x heads, T, d), in one copy."""
    return x.unflatten(2, (parts, heads, -1)).permute(2, 0, 3, 1, 4).flatten(1, 2)


def join_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(B x heads, T, d) -> (B, T, heads x d)."""
    return x.unflatten(0, (-1, heads)).transpose(1, 2).flatten(2)
