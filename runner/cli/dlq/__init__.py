"""``dlq``: the commands of the dead-letter desk."""
