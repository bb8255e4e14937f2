"""The process that reads the files and declares the topology for the supervisor, and exits after each task.

``preparation_client.py`` runs in the supervisor. ``__main__.py`` and ``preparer.py`` run in the process. This keeps the
supervisor small. An error or a delay of a file or of the broker can neither stop nor block the supervisor.
"""
