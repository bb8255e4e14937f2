"""The broker of a project, which is a running broker, a private node, or a container."""
