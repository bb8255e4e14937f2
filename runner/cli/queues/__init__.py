"""``queues``, ``peek``, ``purge`` and ``move``: the commands on the queues of a project."""
