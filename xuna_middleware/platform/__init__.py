"""The platform step: exchange a grant for a credential of XUNA AI's."""
