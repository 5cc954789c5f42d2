"""Cache lines."""

from __future__ import annotations

LINE = 64
"""Bytes: the unit in which memory moves, and to which buffers and what threads write are aligned. Every processor that there is a target
for has lines of 64 bytes, or of 128 that are as well served by pairs."""
