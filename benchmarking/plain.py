"""What one writes first: the plain implementation that `benchmark.py --against_plain` compares with.

    python benchmarking/plain.py --batch_size 64 --seconds 20

float32; every sentence padded to 50 words; three separate Adam optimizers; a DataLoader with two
workers; the convolutional decoder; the loss read on the host at every step. Networks and sizes are
those of models.py. It has no channel and fewer losses than train.py: less work, never more.
"""

import sys
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import losses  # noqa: E402
from command_line import Parser, exit_code, number  # noqa: E402
from data_utils import PAD, Vocabulary  # noqa: E402
from devices import choose_device, set_threads  # noqa: E402
from models import AutoregressiveLanguageModel, CaptionNetwork, ConvSceneDecoder  # noqa: E402
from settings import Settings  # noqa: E402
from text.grammar import sample_sentences  # noqa: E402
from text.padding import targets_of  # noqa: E402

MAX_WORDS = 50


class Sentences(Dataset):
    """Descriptions as rows of 50 word numbers, encoded when they are asked for."""

    def __init__(self, count, seed):
        self.vocab = Vocabulary.of_grammar()
        self.sentences = sample_sentences(count, "train", seed)

    def __len__(self):
        return len(self.sentences)

    def __getitem__(self, i):
        ids = self.vocab.encode(self.sentences[i])
        return torch.tensor(ids + [PAD] * (MAX_WORDS - len(ids)))  # (50,)


class PlainTrainer:
    """Sizes, batch size, learning rate and loss weights come from the settings, all else is plain."""

    def __init__(self, settings, device):
        self.settings, self.device = settings, device
        s = settings
        torch.manual_seed(s.seed)
        dataset = Sentences(s.num_samples, s.seed)
        self.loader = DataLoader(dataset, batch_size=s.batch_size, shuffle=True, drop_last=True, num_workers=2)
        self.batches = iter(())
        vocab_size = len(dataset.vocab)
        self.language_model = AutoregressiveLanguageModel(vocab_size, MAX_WORDS, s.d_model, s.n_heads, s.n_layers).to(device)
        self.scene_decoder = ConvSceneDecoder(s.d_model, s.hidden_dim, s.z_dim).to(device)
        self.caption_network = CaptionNetwork(vocab_size, MAX_WORDS, s.d_model, s.hidden_dim).to(device)
        self.networks = [self.language_model, self.scene_decoder, self.caption_network]
        self.optimizers = [torch.optim.Adam(network.parameters(), lr=s.lr) for network in self.networks]
        self.rng = torch.Generator(device).manual_seed(s.seed)

    def next_batch(self):
        """Word numbers (B, 50) on the device."""
        ids = next(self.batches, None)
        if ids is None:
            self.batches = iter(self.loader)
            ids = next(self.batches)
        return ids.to(self.device)

    def train_step(self):
        """One batch, learned from. Returns the loss, a number."""
        s, ids = self.settings, self.next_batch()
        text = self.language_model(ids, pack=False)
        scene = self.scene_decoder(text, ids != PAD, self.rng)
        caption, seen = self.caption_network(scene.picture, ids, s.word_dropout, self.rng)
        targets = targets_of(ids)
        loss = s.lambda_caption * losses.word_loss(caption, targets)
        loss = loss + s.lambda_language * losses.word_loss(text.logits, targets)
        loss = loss + s.lambda_consistency * losses.consistency_loss(seen, text.sentence)
        loss = loss + s.lambda_kl * losses.kl_loss(scene.kl)
        loss = loss + s.lambda_spatial * losses.spatial_loss(scene.picture)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        for network, optimizer in zip(self.networks, self.optimizers):
            torch.nn.utils.clip_grad_norm_(network.parameters(), s.clip)
            optimizer.step()
        return loss.item()


def parse_arguments(argv):
    parser = Parser("benchmarking/plain.py", __doc__)
    for name in ("batch_size", "d_model", "n_heads", "n_layers", "hidden_dim", "z_dim"):
        parser.add_argument(f"--{name}", type=number(int, 1), default=getattr(Settings(), name))
    parser.add_argument("--seconds", type=number(float, above=0), default=20.0, help="how long to train (default: 20)")
    parser.add_argument("--device", default="auto")
    return parser.parse_args(argv)


def train(seconds, device, **sizes):
    """Train for some seconds, and print how fast it was. Returns the exit code. Raises ValueError."""
    device = choose_device(device)
    set_threads()
    trainer, steps = PlainTrainer(Settings(**sizes), device), 0
    first = trainer.train_step()  # starts the loader's workers; not timed
    begin = time.perf_counter()
    while not steps or time.perf_counter() - begin < seconds:
        last, steps = trainer.train_step(), steps + 1
    rate = steps * sizes["batch_size"] / (time.perf_counter() - begin)
    print(f"{rate:.1f} sentences/s over {steps} steps of {sizes['batch_size']}; loss {first:.3f} -> {last:.3f}")
    return 0


def main(argv=None):
    args = vars(parse_arguments(argv))
    return exit_code("benchmarking/plain.py", lambda: train(**args), "make --batch_size or another size smaller")


if __name__ == "__main__":
    sys.exit(main())
