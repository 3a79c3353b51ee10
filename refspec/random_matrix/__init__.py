"""The spectrum predicted without simulation: limiting laws of planted worlds."""
