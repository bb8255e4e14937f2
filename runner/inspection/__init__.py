"""Checks of plugins and plugin options in a separate process, before any service starts.

Plugin code can hang, crash or print text, which must not affect the supervisor. ``inspector.py`` starts the inspection
process and sends the request. ``__main__.py`` runs in the inspection process, and does not import the models of the
YAML files. ``inspector.py`` imports only a few modules, so that the inspection process starts while the parent process
is still importing.
"""
