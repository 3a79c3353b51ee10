"""A layer of a network, its features Gaussian given the class and the outputs."""
