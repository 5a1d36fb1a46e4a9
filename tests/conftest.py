"""What every test shares: quiet libraries, one thread each, and the same random examples in every run."""

from __future__ import annotations

import os

# Before any of them is imported: they read these once.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may depend on a network
os.environ.pop("MEDTEX_EDGE_DEBUG", None)

from hypothesis import HealthCheck, settings

# Derandomised, since a suite that fails now and then teaches people to run it again. Search for new examples by
# HYPOTHESIS_PROFILE=search.
settings.register_profile(
    "steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=50
)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
