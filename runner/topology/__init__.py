"""The compilation of topology.yaml into broker objects, and the comparison of these objects with a broker."""
