"""Mutation testing: faults are seeded into the compiler one at a time, to see whether its tests find them (`python -m mutants`)."""
