"""How many tokens a text or a prompt has."""
