"""The process that reads the files and declares the topology for the supervisor, and exits after each task.

``preparation_client.py`` is the supervisor's side; ``__main__.py`` and ``preparer.py`` are the process. So the
supervisor stays small, and no error or delay of a file or of the broker can stop or block it.
"""
