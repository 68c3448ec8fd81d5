"""What one writes first, and what a competent person writes: the plain implementations of `benchmark.py --against_plain`.

    python benchmarking/plain.py --batch_size 64 --seconds 20
    python benchmarking/plain.py --batch_size 64 --seconds 20 --competent

First: float32; every sentence padded to 50 words; three separate Adam optimizers; a DataLoader with two workers; the
loss read on the host at every step. Competent: sentences padded to the longest of their batch, one fused AdamW, AMP where the
processor has it, workers that stay, nothing read on the host. Both have the same networks, those of models.py with the
convolutional decoder, and the same losses. They have no channel and fewer losses than train.py: less work, never more.
"""

import sys
import time

import torch
from torch.utils.data import DataLoader, Dataset

import losses
from data_utils import PAD, Vocabulary
from models import AutoregressiveLanguageModel, CaptionNetwork, ConvSceneDecoder
from runtime.command_line import Parser, exit_code, number
from runtime.devices import amp_dtype, choose_device, set_threads
from settings import Settings
from text.grammar import MOST_WORDS, sample_sentences
from text.padding import targets_of

MAX_WORDS = 50


class Sentences(Dataset):
    """Descriptions as rows of word numbers, encoded when they are asked for, and padded to `length` words (0: as long as they are)."""

    def __init__(self, count, seed, length=MAX_WORDS):
        self.vocab, self.length = Vocabulary.of_grammar(), length
        self.sentences = sample_sentences(count, "train", seed)

    def __len__(self):
        return len(self.sentences)

    def __getitem__(self, i):
        ids = self.vocab.encode(self.sentences[i])
        return torch.tensor(ids + [PAD] * (self.length - len(ids)))  # (50,), or as many as there are words


def pad_to_longest(rows):
    """Rows of word numbers -> (B, longest)."""
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)


class FirstTrainer:
    """As first written. Sizes, batch size, learning rate and loss weights come from the settings, all else is plain."""

    dtype = None  # float32

    def __init__(self, settings, device):
        self.settings, self.device, s = settings, device, settings
        torch.manual_seed(s.seed)
        vocab_size, max_words = self.open_data()
        self.batches = iter(())
        self.language_model = AutoregressiveLanguageModel(vocab_size, max_words, s.d_model, s.n_heads, s.n_layers).to(
            device
        )
        self.scene_decoder = ConvSceneDecoder(s.d_model, s.hidden_dim, s.z_dim).to(device)
        self.caption_network = CaptionNetwork(vocab_size, max_words, s.d_model, s.hidden_dim).to(device)
        self.networks = [self.language_model, self.scene_decoder, self.caption_network]
        self.rng = torch.Generator(device).manual_seed(s.seed)
        self.make_optimizers()

    def open_data(self):
        """Make the loader of batches -> words of the vocabulary, words of the longest sentence."""
        s, dataset = self.settings, Sentences(self.settings.num_samples, self.settings.seed)
        self.loader = DataLoader(dataset, batch_size=s.batch_size, shuffle=True, drop_last=True, num_workers=2)
        return len(dataset.vocab), MAX_WORDS

    def make_optimizers(self):
        self.optimizers = [torch.optim.Adam(network.parameters(), lr=self.settings.lr) for network in self.networks]

    def next_batch(self):
        """Word numbers (B, 50), or (B, longest), on the device."""
        ids = next(self.batches, None)
        if ids is None:
            self.batches = iter(self.loader)
            ids = next(self.batches)
        return ids.to(self.device, non_blocking=True)

    def forward(self, ids):
        """Word numbers (B, T) -> TextState, Scene, caption logits (B, T + 1, V), picture embeddings (B, D)."""
        text = self.language_model(ids, pack=False)
        scene = self.scene_decoder(text, ids != PAD, self.rng)
        return text, scene, *self.caption_network(scene.picture, ids, self.settings.word_dropout, self.rng)

    def loss(self, ids, text, scene, caption, seen):
        """The weighted sum of the losses, 0-dim."""
        s, targets = self.settings, targets_of(ids)
        loss = s.lambda_caption * losses.token_loss(caption, targets)
        loss = loss + s.lambda_language * losses.token_loss(text.logits, targets)
        loss = loss + s.lambda_consistency * losses.consistency_loss(seen, text.sentence)
        loss = loss + s.lambda_kl * losses.kl_loss(scene.kl)
        return loss + s.lambda_spatial * losses.spatial_loss(scene.picture)

    def train_step(self):
        """One batch, learned from. Returns the loss, a number."""
        ids = self.next_batch()
        loss = self.loss(ids, *self.forward(ids))
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        for network, optimizer in zip(self.networks, self.optimizers):
            torch.nn.utils.clip_grad_norm_(network.parameters(), self.settings.clip)
            optimizer.step()
        return loss.item()


class CompetentTrainer(FirstTrainer):
    """The same model and losses by somebody who knows torch, without any trick of this project."""

    def open_data(self):
        s, dataset = self.settings, Sentences(self.settings.num_samples, self.settings.seed, length=0)
        self.loader = DataLoader(
            dataset, s.batch_size, shuffle=True, drop_last=True, num_workers=2, collate_fn=pad_to_longest, persistent_workers=True,
            pin_memory=self.device.type == "cuda",
        )  # fmt: skip
        return len(dataset.vocab), MOST_WORDS

    def make_optimizers(self):
        self.parameters = [p for network in self.networks for p in network.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=self.settings.lr, fused=True)
        self.dtype = amp_dtype(self.device) if self.settings.use_amp else None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)

    def train_step(self):
        """One batch, learned from. Returns the loss, 0-dim, on the device."""
        ids = self.next_batch()
        with torch.autocast(self.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None):
            outputs = self.forward(ids)
        loss = self.loss(ids, *outputs)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()


def parse_arguments(argv):
    parser = Parser("benchmarking/plain.py", __doc__)
    for name in ("batch_size", "d_model", "n_heads", "n_layers", "hidden_dim", "z_dim"):
        parser.add_argument(f"--{name}", type=number(int, 1), default=getattr(Settings(), name))
    parser.add_argument("--seconds", type=number(float, above=0), default=20.0, help="how long to train (default: 20)")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--competent", action="store_true", help="as a competent person writes it, with AMP where it is fast"
    )
    return parser.parse_args(argv)


def train(seconds, device, competent, **sizes):
    """Train for some seconds, and print how fast it was. Returns the exit code. Raises ValueError."""
    device = choose_device(device)
    set_threads()
    trainer, steps = (CompetentTrainer if competent else FirstTrainer)(Settings(**sizes, use_amp=competent), device), 0
    first = trainer.train_step()  # starts the loader's workers; not timed
    begin = time.perf_counter()
    while not steps or time.perf_counter() - begin < seconds:
        last, steps = trainer.train_step(), steps + 1
    rate = steps * sizes["batch_size"] / (time.perf_counter() - begin)
    print(
        f"{rate:.1f} sentences/s over {steps} steps of {sizes['batch_size']}; loss {float(first):.3f} -> {float(last):.3f}"
    )
    return 0


def main(argv=None):
    args = vars(parse_arguments(argv))
    return exit_code("benchmarking/plain.py", lambda: train(**args), "make --batch_size or another size smaller")


if __name__ == "__main__":
    sys.exit(main())
