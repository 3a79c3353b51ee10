"""Isotropic designs: exactly a sum of Wisharts, whose law has a closed form."""
