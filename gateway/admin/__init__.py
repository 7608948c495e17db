"""Django admin of where requests go: deployments, credentials and routing."""

from gateway.admin import credentials, deployments, routing_rules

__all__ = ["credentials", "deployments", "routing_rules"]
