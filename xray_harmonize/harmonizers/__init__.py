"""Harmonizers: transformers that bring images of several scanners to one rendering."""

from __future__ import annotations
