"""What the endpoints of end users and tags may be sent."""

from typing import Any

from budgets.api import unsupported
from budgets.api.endpoints import Strict, StrictQuery
from budgets.api.fields import (
    OPTIONAL,
    Flag,
    LabelText,
    ModelNames,
    PublicId,
    QueryWhole,
    Text,
    TextList,
)
from budgets.api.inputs import DESCRIPTION_LENGTH_MAX, SOME, LinkedLimits, Paged
from budgets.models import END_USER_BYTES_MAX, TAG_BYTES_MAX
from budgets.queries import PAGE_SIZE_MAX


class CustomerId(LabelText):
    def __init__(self, **options: Any) -> None:
        super().__init__(bytes_max=END_USER_BYTES_MAX, **options)


class TagName(LabelText):
    def __init__(self, **options: Any) -> None:
        super().__init__(bytes_max=TAG_BYTES_MAX, **options)


class NewCustomer(LinkedLimits):
    unsupported = unsupported.NEW_CUSTOMER

    user_id = CustomerId()
    alias = Text(allow_blank=True, **OPTIONAL)
    blocked = Flag(**OPTIONAL)
    models = ModelNames(**OPTIONAL)
    organization_id = PublicId(**OPTIONAL)


class UpdateCustomer(NewCustomer):
    unsupported = unsupported.UPDATE_CUSTOMER


class SeveralCustomers(Strict):
    user_ids = TextList(child=CustomerId(), allow_empty=False, **SOME)
    organization_id = PublicId(**OPTIONAL)


class CustomerQuery(StrictQuery):
    end_user_id = CustomerId()
    organization_id = PublicId(**OPTIONAL)


class ListLabels(Paged):
    size = QueryWhole(min_value=1, max_value=PAGE_SIZE_MAX, default=PAGE_SIZE_MAX)
    organization_id = PublicId(**OPTIONAL)


class NewTag(LinkedLimits):
    unsupported = unsupported.TAG

    name = TagName()
    description = Text(max_length=DESCRIPTION_LENGTH_MAX, allow_blank=True, **OPTIONAL)
    organization_id = PublicId(**OPTIONAL)


class UpdateTag(NewTag):
    pass


class OneTag(Strict):
    name = TagName()
    organization_id = PublicId(**OPTIONAL)


class SeveralTags(Strict):
    names = TextList(child=TagName(), allow_empty=False, **SOME)
    organization_id = PublicId(**OPTIONAL)


class ListTags(ListLabels):
    unsupported = unsupported.LIST_TAGS
