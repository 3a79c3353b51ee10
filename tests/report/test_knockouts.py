"""A spectrum as plain data: every number is that of the attribution."""

import numpy as np

import refspec
from refspec.attribution import attribute, eigenbasis, knockout
from refspec.report.knockouts import knockout_record, knockouts_of, rounded, subsets
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
