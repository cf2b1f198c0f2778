"""Read requests and write answers: the code shared by all routes."""
