"""Recipes by name: worlds that show one thing each, to start from."""

from __future__ import annotations

from dataclasses import dataclass

from refspec.synthetic.recipes import Recipe


@dataclass(frozen=True, slots=True)
class Preset:
    """A recipe, and what it shows in a few words."""

    about: str
    recipe: Recipe


#: In the order in which they add structure.
PRESETS = {
    "noise": Preset(
        "nothing within classes but noise, the Marchenko-Pastur law.",
        Recipe(means="none", strength=0.0),
    ),
    "outliers": Preset(
        "class means alone above the noise.",
        Recipe(means="orthogonal", strength=10.0),
    ),
    "levels": Preset(
        "class means, cross-class means and noise apart: outliers, bump and bulk.",
        Recipe(
            dim=400,
            means="orthogonal",
            strength=100.0,
            cross_strength=25.0,
            misclassification=1.0,
        ),
    ),
    "softmax": Preset(
        "probabilities of a softmax, errors that add to zero over them.",
        Recipe(cross_strength=2.0, confidence=2.0, spread=1.0, score_consistent=True),
    ),
    "layer": Preset(
        "a layer's gradients: errors times features, both with class means.",
        Recipe(dim=20, feature_dim=15, strength=5.0, feature_strength=5.0),
    ),
    "depth": Preset(
        "four layers of errors whose class means grow towards the output.",
        Recipe(means="orthogonal", gains=(0.5, 1.0, 2.0, 4.0)),
    ),
}
