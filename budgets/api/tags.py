"""``/tag/*``: words that callers put on requests."""

from collections.abc import Mapping
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from budgets import queries, totals
from budgets.api import label_answers, label_inputs
from budgets.api.budgets import headers_of
from budgets.api.endpoints import Answer, Asked, ManagementView, endpoint
from budgets.api.label_answers import TagView
from budgets.api.limits import (
    check_one_of,
    new_limits,
    wanted_changes,
    wanted_organization,
    wanted_values,
)
from budgets.api.told import tag_views
from budgets.models import Organization
from budgets.services.labels import create_tag, delete_labels, update_tag
from budgets.services.tenancy import DEFAULT_ORGANIZATION

FIELDS: Final[Mapping[str, tuple[str, Any]]] = {"description": ("description", "")}


class TagNew(ManagementView):
    @endpoint(takes=label_inputs.NewTag, answers=label_answers.ChangedTag)
    def post(self, asked: Asked) -> dict[str, Any]:
        """Make a tag with limits, before or after it first spends."""
        now = timezone.now()
        organization = _organization(asked)
        check_one_of(asked)
        tag = create_tag(
            organization=organization,
            name=asked["name"],
            values=wanted_values(asked, FIELDS),
            limits=new_limits(asked, organization=organization),
            now=now,
        )
        return {
            "message": f"Tag {tag.name} created successfully",
            "tag": tag_views([tag], at=now)[0],
        }


class TagUpdate(ManagementView):
    @endpoint(takes=label_inputs.UpdateTag, answers=label_answers.ChangedTag)
    def post(self, asked: Asked) -> dict[str, Any]:
        """Change a tag: what is left out stays, null takes away."""
        now = timezone.now()
        check_one_of(asked)
        with transaction.atomic():
            totals.lock_partition()  # two changes at once must not lose either
            tag = queries.find_tag(asked["name"], organization=_organization(asked))
            limits = wanted_changes(asked, account=tag.account, organization=tag.organization)
            update_tag(tag=tag, values=wanted_values(asked, FIELDS), limits=limits, now=now)
        return {
            "message": f"Tag {tag.name} updated successfully",
            "tag": tag_views([tag], at=now)[0],
        }


class TagDelete(ManagementView):
    @endpoint(takes=label_inputs.OneTag, answers=label_answers.Message)
    def post(self, asked: Asked) -> dict[str, str]:
        """Delete a tag with its limits; what it spent stays."""
        tag = queries.find_tag(asked["name"], organization=_organization(asked))
        delete_labels(labels=[tag], now=timezone.now())
        return {"message": f"Tag {tag.name} deleted successfully"}


class TagInfo(ManagementView):
    @endpoint(
        takes=label_inputs.SeveralTags,
        answers=label_answers.TagsByName,
        described_as={
            "type": "object",
            "additionalProperties": {"$ref": "#/components/schemas/Tag"},
        },
    )
    def post(self, asked: Asked) -> dict[str, TagView]:
        """Tell all about these tags, by their names."""
        tags = queries.find_tags(asked["names"], organization=_organization(asked), field="names")
        return {view.tag.name: view for view in tag_views(tags, at=timezone.now())}


class TagList(ManagementView):
    @endpoint(takes=label_inputs.ListTags, answers=label_answers.Tag, many=True)
    def get(self, asked: Asked) -> Answer:
        """List tags; the headers tell how many pages there are."""
        rows = queries.all_tags()
        if public_id := asked.get("organization_id"):
            rows = rows.filter(organization__public_id=public_id)
        page = queries.page_of(rows, number=asked["page"], size=asked["size"])
        return Answer(tag_views(page.rows, at=timezone.now()), headers_of(page))


def _organization(asked: Asked) -> Organization:
    return wanted_organization(asked, default=DEFAULT_ORGANIZATION)
