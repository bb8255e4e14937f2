"""The classroom: exercises that check themselves on the real system."""
