"""Dead letters, and how they are read, grouped, selected, replayed and discarded."""
