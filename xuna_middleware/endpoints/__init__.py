"""What each address of the gate does."""
