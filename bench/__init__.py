"""Measurements beside other ways to do the same; ``python -m bench`` runs them and prints a table of ratios."""
