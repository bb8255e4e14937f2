"""Checks of plugins and their options in a separate process, before any service runs.

A plugin's code may hang, crash or print, which must not affect the supervisor. ``inspector.py`` starts the process and
asks it; ``__main__.py`` is the process. It does not import the models of the YAML files, and ``inspector.py`` imports
little, so that the process can start while its parent still imports.
"""
