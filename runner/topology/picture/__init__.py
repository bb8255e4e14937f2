"""The picture of a topology: the positions of its parts, and the SVG that shows these parts."""
