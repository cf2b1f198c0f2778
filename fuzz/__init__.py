"""Coverage-guided fuzzing of everything that reads strangers' octets: `make fuzz SECONDS=60`."""
