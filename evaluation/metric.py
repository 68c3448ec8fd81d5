"""What a metric of the evaluation is: a value with all that is needed to judge it."""

OWN = "this_model"  # the model's own entry in a dict that also has baselines


def metric(
    id,
    label,
    value,
    n,
    seed,
    *,
    baselines=None,
    interval=None,
    low=0.0,
    high=1.0,
    better="",
    split="",
    group="",
    **more,
):
    """One number with all that is needed to judge it -> {id: its fields}, an entry of a section's "metrics".

    id: stable name, by which programs find it; label: the text that people see, of which nothing depends.
    n: how many items it covers; low, high: its range, None where it is open; interval: (low, high) at 95 %.
    baselines: {id of labels.BASELINES: value}; better: "high", "low" or "" where neither is.
    split: "test" ... or ""; group: the slot, corruption or captioner that it is about, or "".
    """
    return {
        id: {
            "label": label,
            "split": split,
            "group": group,
            "value": value,
            "n": n,
            "seed": seed,
            "range": [low, high],
            "interval": interval,
            "baselines": baselines or {},
            "better": better,
            **more,
        }
    }
