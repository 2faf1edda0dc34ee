"""From TOML or Python to a checked plan; nothing here runs anything."""
