"""Weights that are large tables."""
