"""Fuzzers: of model files (`python -m fuzz.files`) and of graphs (`python -m fuzz.graphs`), in campaigns that resume and add up."""
