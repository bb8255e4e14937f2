"""Fault injection: faults on purpose, their commands, and the worker's part."""
