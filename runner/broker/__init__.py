"""The broker of a project, which can be an existing broker, a private node or a container."""
