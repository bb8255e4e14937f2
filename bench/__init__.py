"""Benchmarks of the product and its peers. ``python -m bench`` runs them and prints a table of ratios."""
