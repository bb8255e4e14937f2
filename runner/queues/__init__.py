"""The commands on queues: ``queues``, ``peek``, ``purge`` and ``move``."""
