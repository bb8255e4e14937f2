"""The compilation of topology.yaml to exact broker objects, and their comparison with a broker."""
