"""Imported before torch by scripts that compute for long: threads that wait shall sleep, not spin.

Two busy processes on two cores slow each other up to tenfold through spinning threads; sleeping
costs nothing measurable here. The OpenMP library reads this once, when torch is loaded.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
