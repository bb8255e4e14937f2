"""topology.yaml and config.yaml as frozen typed models, and every fault in them with its line."""
