"""Django admin of where requests go: deployments, credentials, routing, and batches."""

from gateway.admin import batches, credentials, deployments, routing_rules

__all__ = ["batches", "credentials", "deployments", "routing_rules"]
