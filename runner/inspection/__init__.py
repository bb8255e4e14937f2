"""Check plugins and their options before anything runs, in a process of their own.

A plugin's code may hang, crash or print; none of that may reach the process that supervises. ``remote.py`` is the side
that asks; ``__main__.py`` is that process. It needs no models of YAML, and ``remote.py`` nothing at all, so that it can
be started while the one that asks still imports.
"""
