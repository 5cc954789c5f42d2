"""Fuzzers of model files (`python -m fuzz.files`), graphs (`fuzz.graphs`), single nodes (`fuzz.nodes`) and numbers (`fuzz.sizes`).
They run in campaigns, which resume where they stopped.
"""
