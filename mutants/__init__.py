"""Mutants: faults seeded into the compiler one at a time, to see whether its tests notice (`python -m mutants`)."""
