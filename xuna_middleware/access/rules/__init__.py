"""Whether a caller may talk to an agent."""
