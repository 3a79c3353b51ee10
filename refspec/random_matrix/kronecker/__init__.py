"""Gradients that are Kronecker products, the features of a sample shared."""
