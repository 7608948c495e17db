"""Templates on the pages of organizations and teams: what each account under them has."""

from typing import Any, Final

from django import forms
from django.contrib.admin import display as column
from django.db.models import Q
from django.utils import timezone

from budgets import display
from budgets.admin import bars
from budgets.admin.forms import SharedBudgetsField
from budgets.models import Account, AccountKind, Budget, BudgetTemplate
from budgets.services import accounts
from budgets.templates import reach_of

KINDS: Final = {
    "each_member": (BudgetTemplate.AppliesTo.MEMBER, "member"),
    "each_key": (BudgetTemplate.AppliesTo.KEY, "key"),
    "each_end_user": (BudgetTemplate.AppliesTo.END_USER, "end user"),
}
TEMPLATE_FIELDS: Final = tuple(KINDS)
EXPLAINED: Final = (
    "Each has these budgets for itself, unless it has one of its own; those yet to come too."
)


class TemplatesForm(forms.ModelForm):
    """A form of an organization or team that also says what each account under it has."""

    each_member = forms.ModelMultipleChoiceField(Budget.objects.none(), required=False)
    each_key = forms.ModelMultipleChoiceField(Budget.objects.none(), required=False)
    each_end_user = forms.ModelMultipleChoiceField(Budget.objects.none(), required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in TEMPLATE_FIELDS:
            if not self.instance.pk:
                self.fields.pop(name, None)
            elif name in self.fields:
                self.fields[name] = _field(self.instance.account, name)

    def write_templates(self, *, holder: Account) -> None:
        """Give accounts under ``holder`` what the form says, if somebody changed it."""
        for name, (applies_to, _) in KINDS.items():
            if name in self.changed_data:
                accounts.set_template(
                    holder=holder,
                    applies_to=applies_to,
                    budgets=self.cleaned_data[name],
                    now=timezone.now(),
                )


class TemplateColumns:
    """Shows templates to those who may look but not change."""

    @column(description="Each member has")
    def each_member(self, obj: Any) -> str:
        return _names(obj, "each_member")

    @column(description="Each key has")
    def each_key(self, obj: Any) -> str:
        return _names(obj, "each_key")

    @column(description="Each end user has")
    def each_end_user(self, obj: Any) -> str:
        return _names(obj, "each_end_user")


def _field(holder: Account, name: str) -> SharedBudgetsField:
    applies_to, word = KINDS[name]
    return SharedBudgetsField(
        organization_id=holder.organization_id,
        chosen=Q(templates__holder=holder, templates__applies_to=applies_to),
        label=f"Each {word} has",
        help_text=_reach_told(holder, applies_to, word),
    )


def _reach_told(holder: Account, applies_to: str, word: str) -> str:
    reach = reach_of(holder=holder, applies_to=applies_to)
    number = f"{display.count(reach.accounts)} {word}{'' if reach.accounts == 1 else 's'}"
    own = display.count(reach.with_own) if reach.with_own else "none"
    have = "have one of their own" if reach.with_own > 1 else "has one of its own"
    whose = ""
    if holder.kind == AccountKind.ORGANIZATION and applies_to != AccountKind.END_USER:
        whose = " What its team gives goes before."
    elif applies_to == AccountKind.END_USER and holder.kind == AccountKind.TEAM:
        whose = " Holds for requests by keys of the team."
    return f"{number} so far; {own} {have}.{whose}"


def _names(obj: Any, name: str) -> str:
    applies_to, _ = KINDS[name]
    given = Budget.objects.filter(templates__holder=obj.account, templates__applies_to=applies_to)
    return ", ".join(map(str, given)) or bars.NOTHING
