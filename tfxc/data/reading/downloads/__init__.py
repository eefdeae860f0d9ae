"""Data sets that the configs name, downloaded and brought into the form they expect."""
