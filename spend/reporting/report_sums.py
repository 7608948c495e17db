"""
Sums for reports, exact, and multiplied by the rate of each day in the database itself.

Days are those of the organization's time zone, as the roll-ups have them. These keep a team, a
user and a key each for itself; where two of them are told apart the ledger is read instead.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Any, Final

from django.db import connection

from budgets import money
from spend.reporting.report_figures import DayRate, DaySum, GroupSum

_LEDGER_MARGIN: Final = timedelta(days=1)
"""A day of any time zone begins and ends less than a day away from that of UTC."""


class Group(StrEnum):
    """By what a report tells spend apart."""

    DAY = "day"
    ORGANIZATION = "organization"
    TEAM = "team"
    USER = "user"
    KEY = "key"
    MODEL = "model"
    PROVIDER = "provider"
    DEPLOYMENT = "deployment"


HOLDERS: Final = frozenset({Group.TEAM, Group.USER, Group.KEY})


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which spend is wanted: the last day included, empty texts for all."""

    organization_ids: Sequence[int]
    first_day: date
    last_day: date
    group_by: tuple[Group, ...]
    model: str = ""
    provider: str = ""


def is_of_the_ledger(group_by: Iterable[Group]) -> bool:
    """Return whether roll-ups do not tell these groups apart."""
    return len(_holders(group_by)) > 1


def by_day(wanted: Wanted) -> list[DaySum]:
    """Return what was spent on each day in each currency, where it is not 0."""
    source = _LEDGER if is_of_the_ledger(wanted.group_by) else _ORGANIZATIONS
    with connection.cursor() as cursor:
        cursor.execute(_BY_DAY.format(source=source), _values(wanted))
        return [DaySum(currency, day, int(units)) for currency, day, units in cursor.fetchall()]


def by_group(wanted: Wanted, *, rates: Iterable[DayRate], rows_max: int) -> list[GroupSum]:
    """Return what each group spent in each currency: ``rows_max`` of them, and one to tell by."""
    known = list(rates)
    values = _values(wanted) | {
        "currencies": [rate.currency for rate in known],
        "days": [rate.day for rate in known],
        "rates": [rate.value for rate in known],
        "stale": [rate.is_stale for rate in known],
        "rows": rows_max + 1,
    }
    with connection.cursor() as cursor:
        cursor.execute(_by_group(wanted), values)
        return [_group_sum(row) for row in cursor.fetchall()]


def _group_sum(row: Sequence[Any]) -> GroupSum:
    groups, currency, units, without_rate, converted, is_stale, *counts = row
    decimals = money.decimals_of(currency)
    return GroupSum(
        tuple(groups),
        currency,
        int(units),
        int(without_rate),
        money.EXACT.scaleb(converted, -decimals),
        is_stale,
        *map(int, counts),
    )


def _values(wanted: Wanted) -> dict[str, Any]:
    return {
        "organizations": list(wanted.organization_ids),
        "first_day": wanted.first_day,
        "last_day": wanted.last_day,
        "from_time": wanted.first_day - _LEDGER_MARGIN,
        "until_time": wanted.last_day + 2 * _LEDGER_MARGIN,
        "model": wanted.model,
        "provider": wanted.provider,
    }


def _by_group(wanted: Wanted) -> str:
    # Words of our own, nothing that anybody sends.
    names = ", ".join(_EXPRESSIONS[group] for group in wanted.group_by)
    return _BY_GROUP.format(source=_source(wanted), groups=f"ARRAY[{names}]::text[]")


def _source(wanted: Wanted) -> str:
    holders = _holders(wanted.group_by)
    if len(holders) > 1:
        return _LEDGER
    parts = [_WITH_HOLDER.format(**_HOLDERS[group]) for group in holders]
    return " UNION ALL ".join([_ORGANIZATIONS, *parts])


def _holders(group_by: Iterable[Group]) -> list[Group]:
    return [group for group in group_by if group in HOLDERS]


_EXPRESSIONS: Final[Mapping[Group, str]] = {
    Group.DAY: "to_char(day, 'YYYY-MM-DD')",
    Group.ORGANIZATION: "organization",
    Group.TEAM: "team",
    Group.USER: "user_name",
    Group.KEY: "key",
    Group.MODEL: "model",
    Group.PROVIDER: "provider",
    Group.DEPLOYMENT: "deployment",
}
_NUMBERS: Final = "amount_units, events, input_tokens, output_tokens, saved_units"
_FROM_DAYS: Final = """
    FROM spend_day kept
    JOIN budgets_account account ON account.id = kept.account_id
    JOIN budgets_organization organization ON {joined}
"""
_WHERE: Final = """
    organization.id = ANY(%(organizations)s)
    AND %(model)s IN ('', kept.model) AND %(provider)s IN ('', kept.provider)
"""
_OF_DAYS: Final = f"WHERE day BETWEEN %(first_day)s AND %(last_day)s AND {_WHERE}"
_ORGANIZATIONS: Final = f"""
    SELECT organization.public_id AS organization, currency, day,
           '' AS team, '' AS user_name, '' AS key, kept.model, provider, deployment, {_NUMBERS}
    {_FROM_DAYS.format(joined="organization.account_id = kept.account_id")} {_OF_DAYS}
"""
# What its teams spent is taken from what the organization did, and given to each of them: what is
# left is what nobody of that kind spent, and the sum is the organization's.
_WITH_HOLDER: Final = f"""
    SELECT organization.public_id, currency, day,
           {{team}}, {{user}}, {{key}}, kept.model, provider, deployment,
           sign * amount_units, sign * events, sign * input_tokens, sign * output_tokens,
           sign * saved_units
    {_FROM_DAYS.format(joined="organization.id = account.organization_id")}
    LEFT JOIN ({{names}}) holder(account_id, name) ON holder.account_id = account.id
    CROSS JOIN (VALUES (1), (-1)) AS both_ways(sign)
    {_OF_DAYS} AND account.kind = '{{kind}}'
"""
_NAME: Final = "CASE WHEN sign > 0 THEN coalesce(holder.name, account.id::text) ELSE '' END"
_NOBODY: Final = {"team": "''", "user": "''", "key": "''"}
_HOLDERS: Final[Mapping[Group, Mapping[str, str]]] = {
    Group.TEAM: {
        **_NOBODY, "team": _NAME, "kind": "team",
        "names": "SELECT account_id, public_id FROM budgets_team",
    },
    Group.USER: {
        **_NOBODY, "user": _NAME, "kind": "user",
        "names": "SELECT account_id, person.public_id FROM budgets_organizationmembership joined"
                 " JOIN budgets_user person ON person.id = joined.user_id",
    },
    Group.KEY: {
        **_NOBODY, "key": _NAME, "kind": "key",
        "names": "SELECT account_id, digest FROM budgets_apikey",
    },
}  # fmt: skip
_LEDGER: Final = f"""
    SELECT organization.public_id AS organization, organization.currency,
           (admitted_at AT TIME ZONE organization.time_zone)::date AS day,
           team, "user" AS user_name, key_digest AS key, kept.model, provider, deployment,
           amount_units, 1 AS events, input_tokens, output_tokens, saved_units
    FROM spend_event kept
    JOIN budgets_organization organization ON organization.id = kept.organization_id
    WHERE admitted_at >= %(from_time)s AND admitted_at < %(until_time)s
          AND (admitted_at AT TIME ZONE organization.time_zone)::date
              BETWEEN %(first_day)s AND %(last_day)s
          AND {_WHERE}
"""
_BY_DAY: Final = """
    SELECT currency, day, sum(amount_units) FROM ({source}) part
    GROUP BY currency, day HAVING sum(amount_units) <> 0 ORDER BY currency, day
"""
_BY_GROUP: Final = """
    WITH daily AS (
        SELECT {groups} AS groups, currency, day, sum(amount_units) AS units,
               sum(events) AS events, sum(input_tokens) AS read, sum(output_tokens) AS written,
               sum(saved_units) AS saved
        FROM ({source}) part GROUP BY 1, 2, 3 HAVING sum(amount_units) <> 0 OR sum(events) <> 0
    ), rate AS (
        SELECT * FROM unnest(
            %(currencies)s::text[], %(days)s::date[], %(rates)s::numeric[], %(stale)s::boolean[]
        ) AS rate(currency, day, value, is_stale)
    )
    SELECT groups, currency, sum(units),
           coalesce(sum(units) FILTER (WHERE value IS NULL), 0),
           coalesce(sum(units * value), 0), coalesce(bool_or(is_stale AND units <> 0), false),
           sum(events), sum(read), sum(written), sum(saved)
    FROM daily LEFT JOIN rate USING (currency, day)
    GROUP BY groups, currency ORDER BY groups, currency LIMIT %(rows)s
"""
