"""Files: safe writes, reads with clear errors, checksums, locks and who owns a folder."""
