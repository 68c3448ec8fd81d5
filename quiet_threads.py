"""Imported before torch by scripts that compute for long: threads that wait shall soon sleep, not spin.

Two busy processes on two cores slow each other up to tenfold through spinning threads, and a thread that sleeps at
once takes long to wake: a step of the quick preset took 266 ms with threads that sleep at once, 180 ms with ones that
spin for a moment first (GOMP_SPINCOUNT, in rounds), and with two runs side by side 680 and 770 ms. The OpenMP library
reads this once, when torch is loaded.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
