"""Inspection of models and of the compiler: verification, printed loops, the table of operators."""
