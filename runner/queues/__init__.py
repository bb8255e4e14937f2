"""The queue commands: ``queues``, ``peek``, ``purge`` and ``move``."""
