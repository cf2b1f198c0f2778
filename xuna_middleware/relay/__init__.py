"""The conversation itself, carried by the gate."""
