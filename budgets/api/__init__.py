"""The management API, in LiteLLM's words: translate, one call of the domain, translate."""
