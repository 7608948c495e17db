"""Text inputs that suggest what is known, and take anything."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from budgets.admin.theme import TextInput
from gateway import providers
from gateway.models import Deployment
from spend.models import Provider

SUGGESTIONS_MAX: Final = 1_000


class WithSuggestions(TextInput):
    """A text input with a list of what may be meant."""

    def __init__(self, *, list_id: str, known: Callable[[], Iterable[str]]) -> None:
        super().__init__({"list": list_id, "autocomplete": "off"})
        self._list_id = list_id
        self._known = known

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        known = sorted(self._known())[:SUGGESTIONS_MAX]
        options = format_html_join("", '<option value="{}">', ((each,) for each in known))
        field = super().render(name, value, attrs, renderer)
        return format_html('{}<datalist id="{}">{}</datalist>', field, self._list_id, options)


def known_providers() -> set[str]:
    return {
        *Provider.objects.values_list("slug", flat=True),
        *(each.slug for each in providers.PROVIDERS),
    }


def known_models() -> set[str]:
    return set(Deployment.objects.values_list("model_name", flat=True).distinct())
