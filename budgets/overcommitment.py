"""
Where the budgets of what is under an organization or team add up to more than its own.

That is allowed, and often meant: whoever comes last is refused by the one above. It is told,
because few know it.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final
from uuid import UUID

from django.db import connection

from budgets.models import Account


@dataclass(frozen=True, slots=True)
class Overcommitment:
    """Accounts of one kind that may together spend more than the one above them may."""

    kind: str
    duration: str
    accounts: int
    allotted: Decimal
    limit: Decimal

    @property
    def excess(self) -> Decimal:
        return self.allotted - self.limit


def overcommitments(holders: Sequence[Account]) -> dict[UUID, list[Overcommitment]]:
    """
    Return what is allotted beyond the limits of each organization or team, in one query.

    Only budgets of the same duration are compared, and kinds (teams, users, members, keys) are
    summed apart: a request counts on one of each. Budgets by template count too.
    """
    ids = [holder.pk for holder in holders]
    found: dict[UUID, list[Overcommitment]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(_OVERCOMMITTED, {"ids": ids})
        for holder, *figures in cursor.fetchall():
            found[holder].append(Overcommitment(*figures))
    return dict(found)


_OVERCOMMITTED: Final = """
    WITH child (holder, kind, account, nearest, next_nearest) AS (
        SELECT above.account_id, 'team', team.account_id, NULL::uuid, NULL::uuid
        FROM budgets_team team
        JOIN budgets_organization above ON above.id = team.organization_id
        WHERE above.account_id = ANY(%(ids)s)
        UNION ALL
        SELECT above.account_id, 'user', joined.account_id, NULL, NULL
        FROM budgets_organizationmembership joined
        JOIN budgets_organization above ON above.id = joined.organization_id
        WHERE above.account_id = ANY(%(ids)s)
        UNION ALL
        SELECT above.account_id, 'key', key.account_id, above.account_id, NULL
        FROM budgets_apikey key
        JOIN budgets_organization above ON above.id = key.organization_id
        WHERE above.account_id = ANY(%(ids)s) AND key.team_id IS NULL
        UNION ALL
        SELECT team.account_id, 'member', member.account_id, team.account_id, above.account_id
        FROM budgets_membership member
        JOIN budgets_team team ON team.id = member.team_id
        JOIN budgets_organization above ON above.id = team.organization_id
        WHERE team.account_id = ANY(%(ids)s)
        UNION ALL
        SELECT team.account_id, 'key', key.account_id, team.account_id, above.account_id
        FROM budgets_apikey key
        JOIN budgets_team team ON team.id = key.team_id
        JOIN budgets_organization above ON above.id = team.organization_id
        WHERE team.account_id = ANY(%(ids)s)
    ),
    given (holder, kind, account, budget_id) AS (
        SELECT child.holder, child.kind, child.account, own.budget_id
        FROM child JOIN budgets_accountbudget own ON own.account_id = child.account
        UNION ALL
        SELECT child.holder, child.kind, child.account, template.budget_id
        FROM child JOIN budgets_budgettemplate template
             ON template.applies_to = child.kind AND template.holder_id = CASE WHEN EXISTS (
                 SELECT 1 FROM budgets_budgettemplate near
                 WHERE near.holder_id = child.nearest AND near.applies_to = child.kind
             ) THEN child.nearest ELSE child.next_nearest END
        WHERE NOT EXISTS (
            SELECT 1 FROM budgets_accountbudget own WHERE own.account_id = child.account)
    ),
    tightest (holder, kind, account, duration, amount) AS (
        SELECT given.holder, given.kind, given.account, budget.duration, min(budget.max_budget)
        FROM given JOIN budgets_budget budget ON budget.id = given.budget_id
        WHERE budget.max_budget IS NOT NULL
        GROUP BY 1, 2, 3, 4
    ),
    above (holder, duration, amount) AS (
        SELECT own.account_id, budget.duration, min(budget.max_budget)
        FROM budgets_accountbudget own JOIN budgets_budget budget ON budget.id = own.budget_id
        WHERE own.account_id = ANY(%(ids)s) AND budget.max_budget IS NOT NULL
        GROUP BY 1, 2
    )
    SELECT above.holder, tightest.kind, above.duration, count(*), sum(tightest.amount), above.amount
    FROM above JOIN tightest USING (holder, duration)
    GROUP BY above.holder, tightest.kind, above.duration, above.amount
    HAVING sum(tightest.amount) > above.amount
    ORDER BY above.holder, tightest.kind, above.duration
"""
