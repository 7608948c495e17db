"""The gateway's memory keeps an event until the ledger has it, and no longer."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets.money import Units
from budgets.unconfirmed import Event, Unconfirmed

pytestmark = pytest.mark.no_servers


def event(id: str) -> Event:
    return Event(id=id, amount=Units(1), admitted_ms=0, path="", payload=b"")


def remembering(*entries: str) -> Unconfirmed:
    """Return a memory of events settled at these stream entries, each under its entry as id."""
    memory = Unconfirmed()
    for entry in entries:
        memory.add(event(entry))
        memory.settled(entry, entry=entry)
    return memory


def ids(memory: Unconfirmed) -> list[str]:
    return [each.id for each in memory]


def test_event_is_kept_from_before_its_first_settle() -> None:
    memory = Unconfirmed()

    memory.add(event("a"))

    assert ids(memory) == ["a"]
    assert memory.of_unknown_outcome() == []


def test_event_of_unknown_outcome_is_sent_again_until_it_is_settled() -> None:
    memory = Unconfirmed()
    memory.add(event("a"))
    memory.mark_unknown("a")
    unknown = memory.of_unknown_outcome()

    memory.settled("a", entry="5-0")

    assert unknown == [event("a")]
    assert memory.of_unknown_outcome() == []
    assert ids(memory) == ["a"]


def test_no_position_forgets_an_event_that_is_not_known_to_be_settled() -> None:
    memory = Unconfirmed()
    memory.add(event("sending"))
    memory.add(event("unknown"))
    memory.mark_unknown("unknown")

    memory.forget_up_to("99-0")

    assert ids(memory) == ["sending", "unknown"]


def test_recorded_position_forgets_what_it_has_reached_and_keeps_the_rest() -> None:
    memory = remembering("5-0", "5-1", "5-2", "6-0")

    memory.forget_up_to("5-1")

    assert ids(memory) == ["5-2", "6-0"]


def test_positions_are_compared_as_numbers() -> None:
    memory = remembering("9-9", "9-10", "10-0")

    memory.forget_up_to("9-9")

    assert ids(memory) == ["9-10", "10-0"]


def test_event_of_another_process_is_not_remembered() -> None:
    memory = Unconfirmed()

    memory.settled("unheard of", entry="5-0")
    memory.mark_unknown("unheard of")

    assert len(memory) == 0


def test_new_generation_makes_every_outcome_unknown() -> None:
    memory = remembering("5-0", "6-0")
    memory.add(event("sending"))

    memory.begin_generation()
    memory.forget_up_to("99-0")

    assert {each.id for each in memory.of_unknown_outcome()} == {"5-0", "6-0", "sending"}
    assert len(memory) == 3


def test_only_what_was_sent_holds_money() -> None:
    memory = Unconfirmed()
    memory.add(replace(event("unsent"), is_unsent=True))
    before = memory.holds_money()

    memory.add(event("sent"))

    assert (before, memory.holds_money()) == (False, True)


@given(
    entries=st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20)), unique=True),
    recorded=st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
def test_nothing_above_the_position_is_ever_forgotten(
    entries: list[tuple[int, int]], recorded: tuple[int, int]
) -> None:
    memory = remembering(*(f"{ms}-{n}" for ms, n in entries))

    memory.forget_up_to(f"{recorded[0]}-{recorded[1]}")

    above = {f"{ms}-{n}" for ms, n in entries if (ms, n) > recorded}
    assert above <= set(ids(memory))


@given(
    entries=st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20)), unique=True),
)
def test_the_last_position_forgets_everything_in_whatever_order_it_was_settled(
    entries: list[tuple[int, int]],
) -> None:
    memory = remembering(*(f"{ms}-{n}" for ms, n in entries))

    memory.forget_up_to("21-0")

    assert len(memory) == 0
