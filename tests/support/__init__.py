"""What several test modules share: oracles, generators, verdicts."""
