"""topology.yaml and config.yaml as frozen typed models, with the line of every error in them."""
