"""Where verification keys come from, and how they are read."""
