"""``/api/v1/exchange-rates``: list rates, add one, decide on doubtful ones. Rates are text."""

from typing import Any, Final

from django.utils import timezone
from rest_framework import serializers

from budgets import queries
from budgets.api.answers import MoneyText
from budgets.api.budgets import headers_of
from budgets.api.endpoints import Answer, Asked, ManagementView, Strict, endpoint
from budgets.api.fields import OPTIONAL, Currency, Day, OneOf, Parsed, QueryWhole, Text, Whole
from budgets.api.inputs import Paged
from budgets.queries import PAGE_SIZE_MAX
from spend.currencies import exchange, ratebook
from spend.currencies.exchange import Offered, Source
from spend.models import ExchangeRate, RateState
from spend.models.currencies import REASON_LENGTH_MAX
from spend.services import exchange_rates

ID_MAX: Final = 2**63 - 1


class RateText(Parsed):
    """A rate in digits."""

    def parse(self, text: str) -> str:
        exchange.rate_of(text)
        return text


class RatesQuery(Paged):
    size = QueryWhole(min_value=1, max_value=PAGE_SIZE_MAX, default=PAGE_SIZE_MAX)
    base = Currency(**OPTIONAL)
    quote = Currency(**OPTIONAL)
    source = OneOf(tuple(Source), **OPTIONAL)  # type: ignore[assignment]  # a field, which DRF takes out
    state = OneOf(tuple(RateState.values), **OPTIONAL)
    date = Day(**OPTIONAL)


class NewExchangeRate(Strict):
    base = Currency()
    quote = Currency()
    date = Day()
    rate = RateText()


class Decision(Strict):
    id = Whole(min_value=1, max_value=ID_MAX)
    reason = Text(max_length=REASON_LENGTH_MAX)


class RateAnswer(serializers.ModelSerializer):
    """A rate; ``doubt`` says why it was quarantined, ``reason`` why it was decided so."""

    rate = MoneyText()
    state = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment]  # as above

    class Meta:
        model = ExchangeRate
        fields = (
            "id", "base", "quote", "date", "rate", "source", "state", "doubt", "reason",
            "created_at", "decided_at", "replaced_at",
        )  # fmt: skip


class ExchangeRates(ManagementView):
    @endpoint(takes=RatesQuery, answers=RateAnswer, many=True)
    def get(self, asked: Asked) -> Answer:
        """List exchange rates, those of the newest date first."""
        wanted = ratebook.Asked(
            base=asked.get("base") or "",
            quote=asked.get("quote") or "",
            source=asked.get("source") or "",
            state=asked.get("state") or "",
            day=asked.get("date"),
        )
        page = queries.page_of(ratebook.rates(wanted), number=asked["page"], size=asked["size"])
        return Answer(page.rows, headers_of(page))

    @endpoint(takes=NewExchangeRate, answers=RateAnswer, operation_id="exchange_rates_add")
    def post(self, asked: Asked) -> ExchangeRate:
        """
        Add a rate, in force from the next request on; one that jumps or looks inverted is
        quarantined, and its ``state`` says so.
        """
        now = timezone.now()
        offered = Offered(asked["base"], asked["quote"], asked["date"].isoformat(), asked["rate"])
        rate = exchange.checked(offered, source=Source.MANUAL, today=now.date())
        return exchange_rates.add_rates(rates=[rate], now=now).rows[0]


class ExchangeRateApprove(ManagementView):
    @endpoint(takes=Decision, answers=RateAnswer)
    def post(self, asked: Asked) -> ExchangeRate:
        """Put a quarantined rate in force from the next request on."""
        return exchange_rates.approve_rate(now=timezone.now(), **_decision(asked))


class ExchangeRateReject(ManagementView):
    @endpoint(takes=Decision, answers=RateAnswer)
    def post(self, asked: Asked) -> ExchangeRate:
        """Let a rate not count, or no longer; what was converted at it stays."""
        return exchange_rates.reject_rate(now=timezone.now(), **_decision(asked))


def _decision(asked: Asked) -> dict[str, Any]:
    return {"rate_id": asked["id"], "reason": asked["reason"]}
