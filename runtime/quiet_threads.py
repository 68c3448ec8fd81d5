"""Imported before torch by scripts that compute for long: threads that wait sleep after a while instead of spinning.

Two busy processes on two cores slow each other up to tenfold through spinning threads, and a thread that sleeps at once
takes long to wake. Rounds that a thread spins before it sleeps (GOMP_SPINCOUNT) -> ms of a step of the quick preset
alone: 0 -> 194, 1000 -> 123, 5000 -> 116, 30000 -> 112 (docs/lab/experiments.md). Read once, when torch is loaded.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "5000")
