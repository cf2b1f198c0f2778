"""Which personal data a conversation has."""
