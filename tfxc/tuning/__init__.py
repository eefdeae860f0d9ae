"""Searching for settings: what is tried, what was found, and what is tried next."""
