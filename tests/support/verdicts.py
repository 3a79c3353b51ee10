"""What the property tests of theorems say: a check holds, or rejects a mutant."""

from refspec.theorems import Study, find


def verdict(id, subject):
    """Check one theorem on a snapshot or study; its hypotheses must be met."""
    study = subject if isinstance(subject, Study) else Study(subject)
    (theorem,) = find([id])
    unmet = theorem.unmet(theorem.subject(study))
    assert not unmet, (id, unmet)
    return theorem.check(study)


def meets(id, study):
    """Tell whether the hypotheses are met by what the check sees: scaled to size 1.

    There a weight of 1e-300 may be 0, where errors of 1e60 made a row of it before.
    """
    (theorem,) = find([id])
    return not theorem.unmet(theorem.subject(study))


def holds(id, subject):
    """Assert a theorem, with both sides in the message."""
    found = verdict(id, subject)
    assert found.holds, f"{id}: {found.residual} > {found.bound}, {found.detail}"


def rejected(id, subject):
    """Assert that the check of a theorem fails."""
    found = verdict(id, subject)
    assert not found.holds, f"{id}: {found.residual} <= {found.bound}, {found.detail}"


def study_of(snapshot, **wrong):
    """Return a study some of whose quantities are replaced by wrong ones."""
    study = Study(snapshot)
    study.__dict__.update(wrong)
    return study
