"""The plain implementation of `benchmark.py --against_plain`: the same model and losses by somebody who knows torch.

Sentences are padded to the longest of their batch by a DataLoader with two workers; one fused AdamW, AMP where the
processor has it, nothing read on the host. It has the networks of models.py with the convolutional decoder, and neither
a channel nor all the losses of train.py: less work, never more.
"""

from __future__ import annotations

import torch
from torch.utils.data import DataLoader, Dataset

import losses
from decoders.conv import ConvSceneDecoder
from models import AutoregressiveLanguageModel, CaptionNetwork
from runtime.devices import amp_dtype
from settings import Settings
from text.grammar import MOST_WORDS, sample_sentences
from text.padding import targets_of
from text.vocabulary import PAD, Vocabulary


class Sentences(Dataset):
    """Descriptions as token ids, encoded when they are asked for."""

    def __init__(self, count: int, seed: int):
        self.vocab = Vocabulary.of_grammar()
        self.sentences = sample_sentences(count, "train", seed)

    def __len__(self) -> int:
        return len(self.sentences)

    def __getitem__(self, i: int) -> torch.Tensor:
        return torch.tensor(self.vocab.encode(self.sentences[i]))  # (T,)


def pad_to_longest(rows: list[torch.Tensor]) -> torch.Tensor:
    """Rows of token ids -> (B, longest)."""
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)


class PlainTrainer:
    """Trains with the sizes, batch size, learning rate and loss weights of the settings."""

    def __init__(self, settings: Settings, device: torch.device):
        self.settings, self.device = settings, device
        s, dataset = settings, Sentences(settings.num_samples, settings.seed)
        torch.manual_seed(s.seed)
        self.loader = DataLoader(
            dataset, s.batch_size, shuffle=True, drop_last=True, num_workers=2, collate_fn=pad_to_longest,
            persistent_workers=True, pin_memory=device.type == "cuda",
        )  # fmt: skip
        self.batches = iter(())
        sizes = len(dataset.vocab), MOST_WORDS, s.d_model
        self.language_model = AutoregressiveLanguageModel(*sizes, s.n_heads, s.n_layers).to(device)
        self.scene_decoder = ConvSceneDecoder(s.d_model, s.hidden_dim, s.z_dim).to(device)
        self.caption_network = CaptionNetwork(*sizes, s.hidden_dim).to(device)
        networks = (self.language_model, self.scene_decoder, self.caption_network)
        self.parameters = [p for network in networks for p in network.parameters()]
        self.rng = torch.Generator(device).manual_seed(s.seed)
        self.optimizer = torch.optim.AdamW(self.parameters, lr=s.lr, fused=True)
        self.dtype = amp_dtype(device) if s.use_amp else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype is torch.float16)

    def next_batch(self) -> torch.Tensor:
        """Token ids (B, longest) on the device."""
        ids = next(self.batches, None)
        if ids is None:
            self.batches = iter(self.loader)
            ids = next(self.batches)
        return ids.to(self.device, non_blocking=True)

    def loss(self, ids: torch.Tensor) -> torch.Tensor:
        """The weighted sum of the losses of token ids (B, T), 0-dim."""
        s, targets = self.settings, targets_of(ids)
        with torch.autocast(self.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None):
            text = self.language_model(ids)
            scene = self.scene_decoder(text, self.rng)
            caption = self.caption_network(scene.picture, ids, s.word_dropout, self.rng)
            read = self.caption_network.logits(caption.hidden)  # (B, T + 1, V)
            expected = self.language_model.logits(text.hidden)  # (B, T + 1, V)
        loss = s.lambda_caption * losses.token_loss(read, targets)
        loss = loss + s.lambda_language * losses.token_loss(expected, targets)
        loss = loss + s.lambda_consistency * losses.consistency_loss(caption.embedding, text.sentence)
        loss = loss + s.lambda_kl * losses.kl_loss(scene.kl)
        return loss + s.lambda_spatial * losses.spatial_loss(scene.picture)

    def train_step(self) -> torch.Tensor:
        """Learn from one batch. Returns the loss, 0-dim, on the device."""
        loss = self.loss(self.next_batch())
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()
