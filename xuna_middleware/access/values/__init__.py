"""The personal data of a conversation."""
