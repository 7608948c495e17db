"""The history of all changes, and what Celery beat starts when."""

from typing import Any, Final

from django.apps import apps
from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.contrib.admin import display as column
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.html import format_html
from django_celery_beat.admin import ClockedScheduleAdmin as BeatClockedScheduleAdmin
from django_celery_beat.admin import CrontabScheduleAdmin as BeatCrontabScheduleAdmin
from django_celery_beat.admin import PeriodicTaskAdmin as BeatPeriodicTaskAdmin
from django_celery_beat.admin import PeriodicTaskForm, TaskSelectWidget
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)

from budgets.admin import history
from budgets.admin.base import ReadOnlyAdmin
from budgets.admin.lists import state
from budgets.admin.theme import ModelAdmin, Select, TextInput, UncountedPaginator
from budgets.models import AccountBudget, BudgetTemplate, Change, Closing, Membership, RefusalCount

UNREGISTERED: Final = (AccountBudget, BudgetTemplate, Membership)
"""Shown on the pages of others; their changes are kept too."""
WITHOUT_HISTORY: Final = (Change, Closing, RefusalCount)


class TableFilter(SimpleListFilter):
    title = "kind of thing"
    parameter_name = "table"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        ours = [
            app for app in apps.get_app_configs() if app.label in {"budgets", "spend", "gateway"}
        ]
        return [
            (model._meta.db_table, str(model._meta.verbose_name).capitalize())
            for app in ours
            for model in app.get_models()
            if (admin.site.is_registered(model) or model in UNREGISTERED)
            and model not in WITHOUT_HISTORY
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Change]) -> QuerySet[Change]:
        return queryset.filter(table_name=self.value()) if self.value() else queryset


@admin.register(Change)
class ChangeAdmin(ReadOnlyAdmin):
    purpose = "Every change of the configuration, by whom and why; made by the database itself."
    list_display = ("at", "who", "what", "change_told", "reason")
    list_display_links = ("at",)
    list_filter = ("action", TableFilter)
    list_fullwidth = True
    search_fields = ("object_id__exact", "actor__exact")
    search_help_text = "Exact object id or actor"
    ordering = ("-at",)
    paginator = UncountedPaginator
    fields = ("at", "who", "what", "told", "reason")
    readonly_fields = ("who", "what", "told")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Change]:
        return history.with_exact_numbers(super().get_queryset(request))

    @column(description="Who")
    def who(self, obj: Change) -> str:
        return obj.actor or "unknown"

    @column(description="What")
    def what(self, obj: Change) -> str:
        link, name = history.object_link(obj), history.object_name(obj)
        words = history.WORDS.get(obj.action, obj.action)
        if link is None:
            return format_html('<span class="cp-wrap">{} {}</span>', name, words)
        return format_html('<a class="cp-link cp-wrap" href="{}">{}</a> {}', link, name, words)

    @column(description="Fields")
    def change_told(self, obj: Change) -> str:
        if obj.action != "update":
            return ""
        names = [each.name for each in history.field_changes(obj)]
        return ", ".join(names) or "secret"

    @column(description="Fields")
    def told(self, obj: Change) -> str:
        return render_to_string("budgets/change.html", {"change": history.told(obj)})


class TaskWidget(Select, TaskSelectWidget):  # type: ignore[misc]  # beat tells no types
    """Beat's list of tasks, as the other selects look."""


class TaskForm(PeriodicTaskForm):  # type: ignore[misc]  # beat tells no types
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "task" in self.fields:
            self.fields["task"].widget = TextInput()
            self.fields["regtask"].widget = TaskWidget()


for _scheduled in (
    PeriodicTask, IntervalSchedule, CrontabSchedule, SolarSchedule, ClockedSchedule,
):  # fmt: skip
    admin.site.unregister(_scheduled)


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(BeatPeriodicTaskAdmin, ModelAdmin):  # type: ignore[misc]  # beat tells no types
    form = TaskForm
    date_hierarchy = None
    list_display = ("name", "is_on", "scheduler", "last_run_at", "total_run_count")
    list_filter = ("enabled", "one_off")
    autocomplete_fields = ("interval", "crontab", "solar", "clocked")
    list_select_related = ("interval", "crontab", "solar", "clocked")

    @column(description="State", ordering="enabled")
    def is_on(self, obj: PeriodicTask) -> str:
        return state("fine", "check_circle", "On") if obj.enabled else state("full", "pause", "Off")


@admin.register(IntervalSchedule)
class IntervalScheduleAdmin(ModelAdmin):
    list_display = ("__str__", "every", "period")
    search_fields = ("every", "period")


@admin.register(CrontabSchedule)
class CrontabScheduleAdmin(BeatCrontabScheduleAdmin, ModelAdmin):  # type: ignore[misc]  # beat tells no types
    search_fields = ("minute", "hour", "timezone")
    inlines = ()


@admin.register(SolarSchedule)
class SolarScheduleAdmin(ModelAdmin):
    search_fields = ("event",)


@admin.register(ClockedSchedule)
class ClockedScheduleAdmin(BeatClockedScheduleAdmin, ModelAdmin):  # type: ignore[misc]  # beat tells no types
    search_fields = ("clocked_time",)
    inlines = ()
