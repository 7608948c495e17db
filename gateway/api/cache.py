"""``/cache/*`` as LiteLLM's clients call it: whether the response cache works, and emptying it."""

from typing import Any

from rest_framework import serializers

from budgets.api.endpoints import Asked, ManagementView, Strict, endpoint
from budgets.api.fields import Text, TextList
from gateway.api.router_inputs import Nothing
from gateway.caching import upkeep

KEY_LENGTH_MAX = 128


class NoFields(Strict):
    pass


class Keys(Strict):
    """As the header ``x-litellm-cache-key`` tells them."""

    keys = TextList(child=Text(max_length=KEY_LENGTH_MAX), allow_empty=False)


class Pong(serializers.Serializer):
    status = serializers.CharField()
    cache_type = serializers.CharField()
    ping_response = serializers.BooleanField()


class Dropped(serializers.Serializer):
    status = serializers.CharField()
    deleted = serializers.IntegerField()


class CachePing(ManagementView):
    @endpoint(takes=Nothing, answers=Pong)
    def get(self, asked: Asked) -> dict[str, Any]:
        """Tell that the response cache is on and its server answers."""
        upkeep.ping()
        return {"status": "healthy", "cache_type": "redis", "ping_response": True}


class CacheDelete(ManagementView):
    @endpoint(takes=Keys, answers=Dropped)
    def post(self, asked: Asked) -> dict[str, Any]:
        """Drop the answers that are kept under these keys."""
        return {"status": "success", "deleted": upkeep.delete(asked["keys"])}


class CacheFlushAll(ManagementView):
    @endpoint(takes=NoFields, answers=Dropped)
    def post(self, asked: Asked) -> dict[str, Any]:
        """Drop every answer, of all organizations."""
        return {"status": "success", "deleted": upkeep.delete_all()}
