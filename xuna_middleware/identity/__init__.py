"""Who is calling: from what a request presents to a verified identity."""
