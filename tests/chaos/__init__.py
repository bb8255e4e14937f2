"""A run under faults: orders at a steady rate, faults at random, and a checker that trusts nobody."""
