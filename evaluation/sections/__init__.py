"""The sections of an evaluation.

A section is a function of a `ModelUnderTest`, a `Protocol`, a seed and `advance` (called with the share of the section
that was just done, in [0, 1]) -> {"metrics": `metric.Metrics`, "details": {...}}, all of it JSON.
"""
