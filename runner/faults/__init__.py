"""Fault injection: the commands, and their part in the workers."""
