"""
Days of a report are those of the organization's time zone, and add up, in every zone.

``ZONES=full`` asks every zone of the IANA database (``make zones``), otherwise some forty of them.
A zone fails whose rules Postgres and Python know differently: one of the two has old zone data.
"""

import os
import threading
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

import pytest
from django.db import Error as DatabaseError
from django.db import connection, connections, transaction

from budgets import totals
from budgets.fields import validate_time_zone
from budgets.models import AccountKind, Organization, PeriodTotal, derived_account_id
from budgets.money import Units
from budgets.periods import FOREVER
from budgets.services import tenancy
from budgets.services.accounts import Terms
from budgets.storekeeper import Entry
from spend import events, ledger, recorder, verification
from spend.events import Described, Outcome
from spend.models import Day, LabelDay
from spend.reporting import reports
from spend.reporting.report_sums import Group
from tests.api_client import master, spend
from tests.budgets.support import record_everything
from tests.conftest import Cast

pytestmark = pytest.mark.usefixtures("alone")

SOME: Final = (
    "Africa/Cairo", "Africa/Casablanca", "Africa/El_Aaiun", "Africa/Johannesburg", "Africa/Lagos",
    "America/Asuncion", "America/Caracas", "America/Chicago", "America/Havana", "America/Lima",
    "America/Los_Angeles", "America/New_York", "America/Nuuk", "America/Santiago",
    "America/Sao_Paulo", "America/Scoresbysund", "America/St_Johns", "Antarctica/Troll",
    "Asia/Beirut", "Asia/Gaza", "Asia/Jerusalem", "Asia/Kabul", "Asia/Kathmandu", "Asia/Kolkata",
    "Asia/Shanghai", "Asia/Tehran", "Asia/Tokyo", "Asia/Yangon", "Atlantic/Azores",
    "Australia/Adelaide", "Australia/Eucla", "Australia/Lord_Howe", "Australia/Sydney",
    "Europe/Berlin", "Europe/Dublin", "Europe/London", "Europe/Moscow", "Pacific/Apia",
    "Pacific/Auckland", "Pacific/Chatham", "Pacific/Honolulu", "Pacific/Kiritimati",
    "Pacific/Marquesas", "UTC",
)  # fmt: skip
NO_ZONES: Final = {"localtime", "Factory", *tenancy.ABBREVIATIONS}
"""Names that the database of zones has, and that no organization can have."""
ZONES: Final = (
    sorted(available_timezones() - NO_ZONES) if os.environ.get("ZONES") == "full" else SOME
)
YEAR: Final = 2026
STEP: Final = timedelta(minutes=30)
QUARTER: Final = timedelta(minutes=15)
DAY: Final = timedelta(days=1)
CENT: Final = 10**7


def organization_in(zone: str) -> Organization:
    name = f"zone-{uuid.uuid4().hex}"
    values = {"public_id": name, "name": zone, "time_zone": zone}
    return tenancy.create_organization(values=values, terms=Terms(), now=datetime.now(UTC))


def record(organization: Organization, times: Sequence[datetime]) -> None:
    """Record a request of one cent at each of these times, all at once."""
    described = Described(
        organization_id=organization.pk, currency="USD", key_digest="", team="", user="",
        end_user="somebody", tags=(), route="/v1/chat/completions", model="m", provider="p",
        upstream_model="m", deployment="d", price_reference="price:1", cost_currency="USD",
        streamed=False, reserved_units=0,
    )  # fmt: skip
    payload = events.encode(described, Outcome(status=200, cost=Decimal("0.01"), usage={}))
    entries = [
        Entry(
            position="0-1", id=str(uuid.uuid4()), amount=Units(CENT), admitted_at=at,
            path=(organization.account_id, end_user_of(organization)), kind="usage",
            payload=payload,
        )
        for at in times
    ]  # fmt: skip
    ledger.make_partitions({at.date() for at in times})
    with transaction.atomic():
        revision = totals.lock_partition().revision
        recorder.apply(entries, now=datetime.now(UTC), revision=revision)


def end_user_of(organization: Organization) -> uuid.UUID:
    return derived_account_id(
        organization_id=organization.pk, kind=AccountKind.END_USER, text="somebody"
    )


def reported(organization: Organization, first: date, last: date) -> tuple[dict[str, int], int]:
    """Return cents by day, and in total, as the report tells them."""
    asked = reports.Asked(
        Organization.objects.filter(pk=organization.pk), first, last, (Group.DAY,)
    )
    report = reports.read(asked)
    days = {row.groups[0].id: _cents(row.figures.amount) for row in report.rows}
    return days, _cents(report.total.amount)


def _cents(amount: Decimal | None) -> int:
    assert amount is not None
    return int(amount * 100)


def changes_of_clocks(zone: str) -> list[datetime]:
    """Return the hours of the year in which the zone's offset changes, as Python has it."""
    where, at = ZoneInfo(zone), datetime(YEAR, 1, 1, tzinfo=UTC)
    found = []
    while at.year == YEAR:
        if (at + timedelta(hours=1)).astimezone(where).utcoffset() != at.astimezone(
            where
        ).utcoffset():
            found.append(at)
        at += timedelta(hours=1)
    return found


def around(middle: datetime) -> list[datetime]:
    """Return a time in each half hour of the day before and the two after."""
    first = middle - DAY + QUARTER
    return [first + n * STEP for n in range(int(3 * DAY / STEP))]


def local_days(times: Iterable[datetime], zone: str) -> dict[str, int]:
    return dict(Counter(str(at.astimezone(ZoneInfo(zone)).date()) for at in times))


@pytest.mark.parametrize("zone", ZONES)
def test_every_request_lies_in_its_local_day_and_the_days_are_the_total(zone: str) -> None:
    validate_time_zone(zone)
    organization = organization_in(zone)
    middles = changes_of_clocks(zone) or [datetime(YEAR, 6, 30, 12, tzinfo=UTC)]
    times = sorted({at for middle in middles for at in around(middle)})

    record(organization, times)
    days, total = reported(organization, date(YEAR - 1, 12, 30), date(YEAR, 12, 31))

    life = PeriodTotal.objects.get(account=organization.account, period_start=FOREVER.start)
    assert days == local_days(times, zone)
    assert sum(days.values()) == total == len(times) == life.amount_units // CENT


@pytest.mark.parametrize(
    ("zone", "day", "half_hours"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 46),
        ("Europe/Berlin", date(2026, 10, 25), 50),
        ("America/New_York", date(2026, 3, 8), 46),
        ("America/New_York", date(2026, 11, 1), 50),
        ("America/Havana", date(2026, 3, 8), 46),
        ("America/Havana", date(2026, 11, 1), 50),
        ("Africa/Cairo", date(2026, 4, 24), 46),
        ("Africa/Cairo", date(2026, 10, 29), 50),
        ("Australia/Lord_Howe", date(2026, 10, 4), 47),
        ("Australia/Lord_Howe", date(2026, 4, 5), 49),
        ("Asia/Kathmandu", date(2026, 4, 5), 48),
        ("Pacific/Apia", date(2011, 12, 30), 0),
    ],
)
def test_day_has_the_hours_that_it_has(zone: str, day: date, half_hours: int) -> None:
    organization = organization_in(zone)
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    times = around(noon)
    times = [times[0] - DAY + n * STEP for n in range(int(5 * DAY / STEP))]

    record(organization, times)
    days, total = reported(organization, day, day)

    assert total == days.get(str(day), 0) == half_hours


# --- Another zone ------------------------------------------------------------------------


@pytest.fixture
def organization() -> Organization:
    """An organization in UTC that has spent in each half hour around a change of clocks."""
    made = organization_in("UTC")
    record(made, around(datetime(2026, 10, 25, 1, tzinfo=UTC)))
    return made


@pytest.mark.parametrize("zone", ["Australia/Lord_Howe", "Asia/Kathmandu", "America/Los_Angeles"])
def test_days_are_made_anew_where_the_zone_changes(zone: str, organization: Organization) -> None:
    times = around(datetime(2026, 10, 25, 1, tzinfo=UTC))

    set_zone(organization, zone)
    days, total = reported(organization, date(2026, 10, 20), date(2026, 10, 30))

    labels = LabelDay.objects.filter(account_id=end_user_of(organization))
    assert days == local_days(times, zone)
    assert total == len(times)
    assert {str(row.day): row.events for row in labels} == local_days(times, zone)
    record_everything()
    assert verification.verify().differences == ()


def set_zone(organization: Organization, zone: str) -> None:
    tenancy.update_organization(organization=organization, values={"time_zone": zone})


@pytest.mark.parametrize("zone", sorted(tenancy.ABBREVIATIONS))
def test_zone_that_is_a_fixed_offset_to_the_database_is_refused(
    zone: str, organization: Organization
) -> None:
    updated = {"organization_id": organization.public_id, "time_zone": zone}
    made = {"organization_alias": "new", "time_zone": zone}

    replies = [
        master().post("/organization/update", updated), master().post("/organization/new", made),
    ]  # fmt: skip

    assert [(each.status, each.error["param"]) for each in replies] == [(400, "time_zone")] * 2
    assert Organization.objects.get(pk=organization.pk).time_zone == "UTC"


def test_zone_set_back_gives_back_the_same_days(organization: Organization) -> None:
    rows = Day.objects.filter(account_id=organization.account_id).order_by("day")
    before = list(rows.values_list("day", "model", "amount_units", "events", "saved_units"))

    set_zone(organization, "Pacific/Apia")
    between = list(rows.values_list("day", "model", "amount_units", "events", "saved_units"))
    set_zone(organization, "UTC")

    after = list(rows.values_list("day", "model", "amount_units", "events", "saved_units"))
    assert before == after != between


def test_other_organizations_keep_their_days(organization: Organization, cast: Cast) -> None:
    late = datetime(2026, 3, 2, 23, tzinfo=UTC)
    spend(cast.organization, [cast.organization.account_id], "1", at=late)
    rows = Day.objects.filter(account_id=cast.organization.account_id)
    before = list(rows.values_list("id", "day"))

    set_zone(organization, "Asia/Tokyo")

    assert list(rows.values_list("id", "day")) == before


def test_zone_changed_by_sql_is_followed_and_one_that_is_none_is_refused(
    organization: Organization,
) -> None:
    with connection.cursor() as cursor:
        sql = "UPDATE budgets_organization SET time_zone = %s WHERE id = %s"
        cursor.execute(sql, ["Asia/Tokyo", organization.pk])
        with pytest.raises(DatabaseError, match="not recognized"), transaction.atomic():
            cursor.execute(sql, ["Nowhere/City", organization.pk])

    times = around(datetime(2026, 10, 25, 1, tzinfo=UTC))
    days, _ = reported(organization, date(2026, 10, 20), date(2026, 10, 30))
    assert days == local_days(times, "Asia/Tokyo")


def test_zone_changed_beside_the_recorder_loses_no_request(organization: Organization) -> None:
    def record_some() -> None:
        try:
            for n in range(20):
                record(organization, [datetime(2026, 10, 24, n, 45, tzinfo=UTC)])
        finally:
            connections.close_all()

    recording = threading.Thread(target=record_some)
    recording.start()
    for zone in ("Asia/Tokyo", "America/Havana") * 5:
        set_zone(organization, zone)
    recording.join()

    times = around(datetime(2026, 10, 25, 1, tzinfo=UTC))
    times += [datetime(2026, 10, 24, n, 45, tzinfo=UTC) for n in range(20)]
    days, total = reported(organization, date(2026, 10, 20), date(2026, 10, 30))
    assert days == local_days(times, "America/Havana")
    assert total == len(times)
