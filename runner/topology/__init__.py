"""The compilation of topology.yaml to exact broker objects, and the comparison of these objects with a broker."""
