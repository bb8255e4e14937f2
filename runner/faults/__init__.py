"""Fault injection, with its commands and its part in the workers."""
