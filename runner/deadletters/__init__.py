"""Dead letters: read, group, select, replay and discard them."""
