"""From topology.yaml's shorthand to the exact objects a broker holds."""
