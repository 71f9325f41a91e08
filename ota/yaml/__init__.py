"""YAML that people write: plain nodes, typed, with the line of every mistake."""
