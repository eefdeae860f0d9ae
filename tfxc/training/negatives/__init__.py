"""More wrong labels for head ``label_text``."""
