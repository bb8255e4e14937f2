"""Measurements beside other ways to do the same; each prints a table of ratios."""
