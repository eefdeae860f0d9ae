"""What a data file holds, and the config that this makes: training without a config of one's own."""
