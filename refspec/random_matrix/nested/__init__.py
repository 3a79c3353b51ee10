"""Nested designs of any covariances: the tree, its fixed point, edges and outliers."""
