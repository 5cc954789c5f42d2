"""Draws random graphs: `builder.py` holds what there is so far, each other file a family of things that may be added to it."""
