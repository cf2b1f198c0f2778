"""Set up what all tests share: reproducible examples, so that a run says the same everywhere."""

import os
import sys

import hypothesis

# pytest-xdist's processes have one parent and one command line, as the workers of one service have;
# a MemoryStore warns of those.
sys.argv += [worker] if (worker := os.environ.get("PYTEST_XDIST_WORKER")) else []

hypothesis.settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=60,
    suppress_health_check=[
        hypothesis.HealthCheck.function_scoped_fixture,
        hypothesis.HealthCheck.too_slow,
    ],
)
hypothesis.settings.register_profile(
    "long", parent=hypothesis.settings.get_profile("suite"), derandomize=False, max_examples=2_000
)
hypothesis.settings.load_profile("suite")
