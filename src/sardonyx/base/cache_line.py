"""The size of a cache line."""

from __future__ import annotations

LINE = 64
"""Bytes of a cache line, to which buffers and data written by different threads are aligned. Targets with lines of 128 bytes
exist; there, aligning to 64 works as well."""
