"""What a metric of the evaluation is: a value with all that is needed to judge it."""

from __future__ import annotations

from collections.abc import Mapping

OWN = "this_model"  # the model under test, in a dict that also has baselines

Value = float | int | None


class Metrics(dict):
    """{id: fields} of a section: an entry of metrics.json. All values depend on one seed."""

    def __init__(self, seed: int):
        super().__init__()
        self.seed = seed

    def add(
        self,
        id: str,
        label: str,
        values: Mapping[str, Value],
        n: int,
        *,
        interval: tuple[float, float] | None = None,
        low: float | None = 0.0,
        high: float | None = 1.0,
        better: str = "",
        split: str = "",
        group: str = "",
        **more,
    ) -> None:
        """Add a metric. Raises KeyError if `values` lack the model under test.

        id: stable name, by which programs find it; label: the text that people see, of which nothing depends.
        values: {OWN: value of the model under test, id of labels.BASELINES: value of a baseline}.
        n: how many items it covers; low, high: its range, None where it is open; interval: (low, high) at 95 %.
        better: "high", "low" or "" where neither is; split: "test" ... or "".
        group: the slot, corruption or captioner that it is about, or "".
        """
        self[id] = {
            "label": label,
            "split": split,
            "group": group,
            "value": values[OWN],
            "n": n,
            "seed": self.seed,
            "range": [low, high],
            "interval": interval,
            "baselines": {name: value for name, value in values.items() if name != OWN},
            "better": better,
            **more,
        }
