"""Django admin of where requests go: deployments and credentials."""

from gateway.admin import credentials, deployments

__all__ = ["credentials", "deployments"]
