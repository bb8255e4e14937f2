"""Fault injection: breaking things on purpose, to see what the system does then."""
