"""What the supervisor has done by the half that knows YAML and AMQP: in a process of its own, while it takes.

``remote.py`` is the supervisor's side; ``__main__.py`` and ``task.py`` are that process. So the supervisor stays small,
and nothing that reads files or talks to the broker can take it down or hold it up.
"""
