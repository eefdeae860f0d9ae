"""From files to chunks of examples: formats, parsing, inspection, downloads, source files."""
