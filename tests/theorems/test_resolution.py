"""What the checks see: on every embedded network, errors far below a mistake."""

import functools

import pytest

from refspec import datasets
from refspec.selftest import worlds
from refspec.theorems import Study, all_theorems
from refspec.verify import verify

#: A statement that holds is to see relative errors of this size, or to say why it does
#: not: far above rounding, far below the half percent of a subtle mistake.
SEEN = {"float64": 1e-6, "float32": 1e-2}


@functools.cache
def coarse(name):
    """Return what each check sees where it sees less than it should, by id."""
    snapshot = getattr(datasets, name)()
    single = Study(snapshot).stored > 2.0**-53
    limit = SEEN["float32" if single else "float64"]
    return {
        x.id: x.resolution
        for x in verify(snapshot, theorems=all_theorems())
        if x.status == "holds" and not x.resolution <= limit
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", datasets.names())
def test_every_check_sees_small_errors(name):
    excepted = {x.id for x in all_theorems() if x.coarse}
    left = {id: f"{x:.0e}" for id, x in coarse(name).items() if id not in excepted}
    assert not left


@pytest.mark.slow
def test_no_exception_is_idle():
    """Some are on laws, and apply to the planted worlds only."""
    excepted = [x for x in all_theorems() if x.coarse]
    needed = {id for name in datasets.names() for id in coarse(name)}
    for world in worlds().values():
        left = [x for x in excepted if x.id not in needed]
        for x in verify(world, theorems=left, deep=True):
            if x.status == "holds" and not x.resolution <= SEEN["float64"]:
                needed.add(x.id)
    assert not {x.id for x in excepted} - needed


def test_an_exception_says_what_is_seen():
    for x in all_theorems():
        assert not x.coarse or any(c.isdigit() for c in x.coarse), x.id
