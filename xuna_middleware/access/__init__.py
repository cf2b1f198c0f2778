"""May they, and with what: agents as configured, rules, and the personal data of a conversation."""
