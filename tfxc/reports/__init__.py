"""Reports on a run: tables and pictures."""
