"""Hypothesis profiles and the array namespaces that kernels are tested under."""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings

from support.namespaces import NAMESPACES

for name, examples in (("dev", 25), ("ci", 100), ("fresh", 100), ("deep", 5000)):
    settings.register_profile(
        name,
        max_examples=examples,
        deadline=None,
        derandomize=name == "ci",
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
# A mutant is to fail, and soon: a few examples, none of them made smaller.
settings.register_profile(
    "mutants",
    settings.get_profile("ci"),
    max_examples=30,
    phases=[Phase.explicit, Phase.generate],
)
# Which functions a test reaches it says with fewer.
settings.register_profile("reach", settings.get_profile("mutants"), max_examples=3)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture(params=sorted(NAMESPACES))
def asarray(request):
    """A function that makes arrays of one namespace."""
    return NAMESPACES[request.param]
