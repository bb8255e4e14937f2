"""``dlq``: the commands on dead letters."""
