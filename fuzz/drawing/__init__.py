"""Drawing of random graphs: `builder.py` holds a graph under construction, each other file a family of nodes that can be added to
it.
"""
