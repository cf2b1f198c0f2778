"""The platform's REST API."""
