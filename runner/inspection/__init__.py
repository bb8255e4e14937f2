"""Checks of plugins and their options in a separate process, before any service runs.

A plugin's code may hang, crash or print, which must not affect the supervisor. ``inspector.py`` starts the process and
sends its request, and ``__main__.py`` is the process. The process does not import the models of the YAML files.
``inspector.py`` imports only a few modules, so that the process can start while its parent is still importing.
"""
