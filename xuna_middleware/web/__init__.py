"""Read requests, write answers: what is the same for every route."""
