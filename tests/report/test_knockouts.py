"""A spectrum as plain data: every number is that of the attribution."""

import numpy as np

import refspec
from refspec.attribution import attribute, eigenbasis, knockout
from refspec.report.knockouts import (
    knockout_record,
    knockouts_of,
    leading_knockouts,
    rounded,
    subsets,
)
from support.snapshots import sampled


def test_a_record_holds_the_numbers_of_the_attribution():
    basis = eigenbasis(refspec.fisher(sampled(0, (5, 4, 6), [(4, 3)])))
    solved, top = knockouts_of(basis), 5
    found = attribute(basis)
    made = knockout_record("whole", solved, found, top)
    assert made["lower"] == [rounded(max(x, 0.0)) for x in found.lower[:top]]
    assert made["upper"] == [rounded(x) for x in found.upper[:top]]
    assert made["lower"] != made["upper"]
    assert (made["kinds"], made["proved"]) == (
        found.kinds[:top],
        found.proved[:top].tolist(),
    )
    assert made["levels"] == list(found.shares)
    assert made["traces"] == [rounded(x) for x in found.traces.values()]
    exact = np.stack([x[:top] for x in found.shares.values()])
    shares = [np.asarray(x) / made["scale"] for x in made["shares"][0].values()]
    assert np.abs(np.asarray(shares) - exact).max() <= 2.0**-14
    whole = basis.values[basis.values > found.radius]
    assert made["resolved"] == len(whole) == sum(made["bins"]["log"][0]["counts"])
    assert made["dimension"] == 12
    for removed, values in zip(subsets(made["levels"]), made["values"], strict=True):
        kept = knockout(basis, removed)[0] if removed else basis.values
        kept = np.pad(kept, (0, top))[:top]
        assert values == [rounded(max(x, 0.0)) for x in kept]


def test_knockouts_of_the_largest_are_the_first_of_all():
    moment = refspec.fisher(sampled(0, (5, 4, 6), [(4, 3)]))
    k = 5
    few = attribute(moment, top=k)
    some, every = leading_knockouts(moment, few), knockouts_of(eigenbasis(moment))
    assert some.groups == every.groups
    assert len(some.radii) == len(some.values) == 2 ** len(some.groups)
    for m, values in enumerate(some.values):
        exact = np.pad(every.values[m], (0, k))[:k]
        assert np.abs(values - exact).max() <= some.radii[m] + every.radii[m]
    made = knockout_record("whole", some, few, k)
    assert made["slack"] == rounded(few.radius)
    assert made["floor"] == rounded(few.spectrum.values[-1])
    lowest = few.spectrum.values[k - 2] / 1.05  # where the first bin begins
    above = [int(np.sum((x > made["floor"]) & (x >= lowest))) for x in every.values]
    assert above == [sum(x["counts"]) for x in made["bins"]["log"]]
    assert above[0] == made["resolved"] == k - 1
    assert (made["complete"], made["dimension"]) == (False, moment.shape[1])
    assert made["reach"].keys() == {"outlier", "bump"}
    assert made["reach"]["outlier"] == rounded(few.knockouts["between_class"][0])
