"""A process that reads the files and declares the topology for the supervisor, and exits after each task.

``preparation_client.py`` runs in the supervisor. ``__main__.py`` and ``preparer.py`` run in the preparation process.
The separate process keeps the supervisor small. An invalid file or a slow broker neither stops nor delays the
supervisor.
"""
