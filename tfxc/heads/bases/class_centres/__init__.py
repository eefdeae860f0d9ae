"""Heads that score labels by cosines to class centres."""
