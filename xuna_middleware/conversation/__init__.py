"""The conversation itself, carried by the gate: enforced where it happens, not where it began."""
