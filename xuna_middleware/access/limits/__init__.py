"""How often, how many at once, how long."""
