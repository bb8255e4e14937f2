"""The process that reads YAML and speaks AMQP for the supervisor, and ends after each task.

``preparation_client.py`` is the supervisor's side; ``__main__.py`` and ``preparer.py`` are that process. So the
supervisor stays small, and nothing that reads files or talks to the broker can take it down or hold it up.
"""
