"""
The theme (unfold), in one place: another one would be put in here.

It tells no types, so to mypy its classes are those of Django that they extend.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin, TabularInline
    from django.contrib.admin.views.main import ChangeList
    from django.contrib.admin.widgets import AdminTextInputWidget as TextInput
    from django.contrib.auth.forms import AdminPasswordChangeForm, UserChangeForm
    from django.core.paginator import Paginator as UncountedPaginator
    from django.forms import ClearableFileInput as FileInput
    from django.forms import NumberInput as DecimalInput
    from django.forms import NumberInput as IntegerInput
    from django.forms import PasswordInput, Select, URLInput
    from django.forms import Select as SearchableSelect
    from django.forms import Textarea as TextArea

    Method = TypeVar("Method", bound=Callable[..., object])

    def action(
        *, description: str, icon: str, permissions: Sequence[str]
    ) -> Callable[[Method], Method]:
        """Make a method a button on the pages of single objects."""

else:
    from unfold.admin import ModelAdmin, TabularInline
    from unfold.decorators import action
    from unfold.forms import AdminPasswordChangeForm, UserChangeForm
    from unfold.paginator import InfinitePaginator as UncountedPaginator
    from unfold.views import ChangeList
    from unfold.widgets import UnfoldAdminDecimalFieldWidget as DecimalInput
    from unfold.widgets import UnfoldAdminExpandableTextareaWidget as TextArea
    from unfold.widgets import UnfoldAdminFileFieldWidget as FileInput
    from unfold.widgets import UnfoldAdminIntegerFieldWidget as IntegerInput
    from unfold.widgets import UnfoldAdminPasswordWidget as PasswordInput
    from unfold.widgets import UnfoldAdminSelect2Widget as SearchableSelect
    from unfold.widgets import UnfoldAdminSelectWidget as Select
    from unfold.widgets import UnfoldAdminTextInputWidget as TextInput
    from unfold.widgets import UnfoldAdminURLInputWidget as URLInput

__all__ = [
    "AdminPasswordChangeForm",
    "ChangeList",
    "DecimalInput",
    "FileInput",
    "IntegerInput",
    "ModelAdmin",
    "PasswordInput",
    "SearchableSelect",
    "Select",
    "TabularInline",
    "TextArea",
    "TextInput",
    "URLInput",
    "UncountedPaginator",
    "UserChangeForm",
    "action",
]
