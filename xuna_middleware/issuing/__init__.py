"""From a caller to a credential."""
