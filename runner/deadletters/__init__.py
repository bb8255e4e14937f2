"""Reading, grouping, selecting, replaying and discarding dead letters."""
