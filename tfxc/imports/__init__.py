"""Models that other systems have trained, as run folders of tfxc."""
