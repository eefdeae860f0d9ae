"""Reports on a run: tables and plots."""
