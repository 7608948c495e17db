"""
Compares gateways in one run: nginx, this one with budgets, and LiteLLM's proxy.

The gateway under test has one core to itself; upstream, load, Postgres, Valkey and recorder are on
the other. Rounds are interleaved and medians shown. What cannot be measured here is said, and the
rest is measured all the same.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from bench import litellm_proxy, machine, nginx_proxy, our_gateway, report, soak
from bench.contestants import (
    MODEL,
    Contestant,
    Place,
    Unavailable,
    Wrong,
    free_port,
    upstream_process,
    wait_until_answered,
)
from bench.figures import groups
from bench.load import BadAnswer, target
from bench.measuring import KEEPS_RATE_SHARE, QUICK, Measuring, Overrun, Plan, added, memory_mb
from bench.report import Comparison, say

FAMILIES: Final = {
    nginx_proxy.NAME: (nginx_proxy.NAME,),
    our_gateway.NAME: (our_gateway.NAME,),
    "litellm": (litellm_proxy.PLAIN, litellm_proxy.LIMITED),
}
Start = Callable[[Place], AbstractContextManager[Contestant]]
STARTS: Final[dict[str, Start]] = {
    nginx_proxy.NAME: nginx_proxy.running,
    our_gateway.NAME: our_gateway.running,
    litellm_proxy.PLAIN: partial(litellm_proxy.running, say=say),
    litellm_proxy.LIMITED: partial(litellm_proxy.running_with_limits, say=say),
}
Measure = Callable[[Contestant], dict[str, float]]
FAILURES: Final = (Unavailable, Wrong, BadAnswer, OSError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return 0 unless this gateway or what was measured failed."""
    options = _options(arguments)
    cores = machine.choose_cores(options.cores)
    plan = QUICK if options.quick else Plan()
    if options.rounds is not None:
        plan = replace(plan, rounds=options.rounds)
    if options.soak:
        plan = replace(plan, rounds=1)
    found = _comparison(plan)
    try:
        with _running(options.only, cores, found) as (place, direct, contestants):
            bench = Bench(Measuring(place, plan), found, direct, contestants)
            if options.soak:
                found.groups = soak.groups(plan.soak_marks)
                bench.soak(seconds_max=options.soak_seconds_max)
            else:
                bench.compare()
    finally:
        # Also what was found until Ctrl-C.
        _tell(found, is_kept=options.save)
    return 1 if found.failed else 0


def _tell(found: Comparison, *, is_kept: bool) -> None:
    say(f"\n{report.markdown(found)}")
    if is_kept:
        for path in report.save(found):
            say(f"written: {path}")


def _any(_: Contestant) -> bool:
    return True


class Bench:
    """Measures contestants in turn; one that fails is left out from then on, and it is said why."""

    def __init__(
        self,
        measuring: Measuring,
        found: Comparison,
        direct: Contestant,
        contestants: Sequence[Contestant],
    ) -> None:
        self._measuring = measuring
        self._found = found
        self._contestants = list(contestants)
        self._direct = direct

    def compare(self) -> None:
        """Make all rounds of all measurements."""
        self._each("memory when ready", lambda one: {"memory.start_mb": memory_mb(one)})
        self._each("warm-up", self._warmed_up)
        self._each("nothing to do", self._measuring.idle)
        for number in range(self._measuring.plan.rounds):
            say(f"round {number + 1} of {self._measuring.plan.rounds}")
            self._round()
        self._each("memory at the end", lambda one: {"memory.end_mb": memory_mb(one)})
        for one in self._contestants:
            self._found.add(one.name, {"memory.answers": self._measuring.answers[one.name]})

    def soak(self, *, seconds_max: float) -> None:
        """Take the memory of one contestant after another, at ever more requests."""
        self._each("soak", lambda one: soak.soaked(one, self._measuring, seconds_max=seconds_max))

    def _round(self) -> None:
        measuring = self._measuring
        self._each("all connections at work", measuring.closed)
        for rate in measuring.plan.rates:
            self._less_direct(
                f"{rate} a second",
                partial(measuring.at_rate, rate=rate),
                only=partial(self._keeps, rate=rate),
            )
        self._each("streams", measuring.streams)
        self._less_direct("streams, paced", measuring.streams_at_rate)

    def _less_direct(
        self, what: str, measure: Measure, *, only: Callable[[Contestant], bool] = _any
    ) -> None:
        """Measure times at a rate, less those of the upstream itself, which is measured first."""
        try:
            direct = measure(self._direct)
        except Overrun as failure:
            _note(self._found, self._direct.name, f"nobody at '{what}': {failure}")
            return
        self._each(what, lambda one: added(measure(one), direct), only=only)

    def _warmed_up(self, one: Contestant) -> dict[str, float]:
        self._measuring.warm_up(one)
        return {"memory.warm_mb": memory_mb(one)}

    def _keeps(self, one: Contestant, rate: int) -> bool:
        cpu_ms = self._found.figures.get(one.name, {}).get("closed.cpu_ms", [])
        return bool(cpu_ms) and rate <= KEEPS_RATE_SHARE * 1e3 / max(cpu_ms)

    def _each(
        self,
        what: str,
        measure: Measure,
        *,
        only: Callable[[Contestant], bool] = _any,
    ) -> None:
        for one in [each for each in self._contestants if only(each)]:
            say(f"  {what}: {one.name}")
            try:
                self._found.add(one.name, measure(one))
            except Overrun as failure:
                _note(self._found, one.name, f"not at '{what}': {failure}")
            except FAILURES as failure:
                _note(self._found, one.name, f"left out at '{what}': {failure}")
                self._found.failed = True
                self._contestants.remove(one)
                self._measuring.wait_until_quiet()


@contextmanager
def _running(
    only: Sequence[str], cores: machine.Cores, found: Comparison
) -> Iterator[tuple[Place, Contestant, list[Contestant]]]:
    """Start the upstream, and every contestant that can be; this process stays beside."""
    with ExitStack() as stack:
        stack.enter_context(machine.pinned(cores.beside))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateways-")))
        place = Place(cores=cores, upstream_port=free_port(), folder=folder)
        direct = stack.enter_context(_upstream(place))
        contestants = []
        for name in only:
            say(f"starting {name}")
            try:
                one = stack.enter_context(STARTS[name](place))
            except FAILURES as failure:
                _note(found, name, str(failure))
                # That somebody else's is not to be had here fails nothing.
                found.failed |= name == report.OURS or not isinstance(failure, Unavailable)
                continue
            contestants.append(one)
            found.titles[name] = one.title
            found.versions |= {name: one.version, **one.runs_on}
        yield place, direct, contestants


@contextmanager
def _upstream(place: Place) -> Iterator[Contestant]:
    """Run what all gateways pass requests on to; it is called directly too."""
    process, port = upstream_process(place.upstream_port), place.upstream_port
    with place.beside(process) as pid:
        wait_until_answered(port, "/served", place=place, process=process, pid=pid)
        secret = "sk-nobody-asks"  # noqa: S105
        yield Contestant(
            name="direct", title="the upstream itself", version="",
            target=target(port=port, secret=secret, model=MODEL), pid=pid,
        )  # fmt: skip


def _note(found: Comparison, name: str, problem: str) -> None:
    told = f"{name}: {problem}"
    say(f"  {told}")
    if told not in found.problems:  # it may be so in each round
        found.problems.append(told)


def _comparison(plan: Plan) -> Comparison:
    return Comparison(
        taken_at=datetime.now(UTC),
        commit=report.commit(),
        machine=machine.described(),
        plan=asdict(plan),
        groups=groups(rates=plan.rates, connections=plan.connections, stream_rate=plan.stream_rate),
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gateways", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round: does it run at all")
    parser.add_argument("--rounds", type=_count, help="how often everything is measured")
    parser.add_argument(
        "--only", type=_names, default=_names(",".join(FAMILIES)), metavar="NAMES",
        help=f"some of {','.join(FAMILIES)}",
    )  # fmt: skip
    parser.add_argument("--cores", metavar="0,1", help="the gateway's core, and that of the rest")
    parser.add_argument("--save", action="store_true", help="write JSON and Markdown to results/")
    parser.add_argument("--soak", action="store_true", help="memory only, at many requests")
    parser.add_argument(
        "--soak-seconds-max", type=_count, default=soak.SECONDS_MAX, metavar="SECONDS",
        help="when a contestant that is slow is stopped (default: %(default)s)",
    )  # fmt: skip
    return parser.parse_args(arguments)


def _names(text: str) -> list[str]:
    chosen = [word.strip() for word in text.split(",")]
    if unknown := [word for word in chosen if word not in FAMILIES]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(FAMILIES)}")
    return [name for family in FAMILIES if family in chosen for name in FAMILIES[family]]


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:  # noqa: PLR2004
        raise argparse.ArgumentTypeError("a whole number from 1 to 100000 is needed")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
