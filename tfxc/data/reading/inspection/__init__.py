"""What a data file holds, and the config that follows from it, so that none has to be written."""
