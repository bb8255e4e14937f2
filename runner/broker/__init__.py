"""The broker of a project: one that answers, a private node, or a container."""
