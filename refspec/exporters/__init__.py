"""Exporters, one module per framework; the core imports none of them."""
