"""A setting that does not fit ends the start, and the message begins with its name."""

from collections.abc import Callable
from pathlib import Path

import pytest

from costplatform import env


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COSTPLATFORM_DATA_DIR", str(tmp_path / "var"))
    return tmp_path / "var"


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("many", lambda: env.integer("PROBE", 1, low=1, high=9)),
        ("1.5", lambda: env.integer("PROBE", 1, low=1, high=9)),
        ("٣", lambda: env.integer("PROBE", 1, low=1, high=9)),
        ("", lambda: env.integer("PROBE", 1, low=1, high=9)),
        ("0", lambda: env.integer("PROBE", 1, low=1, high=9)),
        ("10", lambda: env.integer("PROBE", 1, low=1, high=9)),
        ("maybe", lambda: env.flag("PROBE", default=True)),
        ("C", lambda: env.choice("PROBE", "A", of=("A", "B"))),
    ],
)
def test_value_that_does_not_fit_is_refused_by_name(
    value: str, read: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBE", value)

    with pytest.raises(env.SettingError, match=r"^PROBE: must be"):
        read()


def test_bounds_themselves_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBE", " 9 ")

    assert env.integer("PROBE", 1, low=1, high=9) == 9


def test_unset_variable_has_its_default() -> None:
    assert env.integer("PROBE", 7, low=1, high=9) == 7
    assert env.flag("PROBE", default=True)
    assert env.text("PROBE", "as is") == "as is"
    assert env.names("PROBE", "a, b,,") == ["a", "b"]


@pytest.mark.parametrize(
    ("said", "meant"), [("on", True), ("YES", True), ("0", False), ("", False)]
)
def test_flag_knows_the_usual_words(
    said: str, meant: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBE", said)

    assert env.flag("PROBE", default=not meant) is meant


def test_value_may_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "probe").write_text("8\n")
    monkeypatch.setenv("PROBE_FILE", str(tmp_path / "probe"))

    assert env.integer("PROBE", 1, low=1, high=9) == 8


def test_missing_file_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBE_FILE", str(tmp_path / "absent"))

    with pytest.raises(env.SettingError, match=r"^PROBE_FILE: cannot be read"):
        env.text("PROBE", "")


def test_value_and_file_together_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBE", "one")
    monkeypatch.setenv("PROBE_FILE", str(tmp_path / "probe"))

    with pytest.raises(env.SettingError, match=r"^PROBE: is set, and PROBE_FILE too"):
        env.text("PROBE", "")


def test_message_does_not_repeat_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBE", "sk-secret")

    with pytest.raises(env.SettingError) as refusal:
        env.integer("PROBE", 1, low=1, high=9)

    assert "sk-secret" not in str(refusal.value)


def test_secret_is_made_once_and_kept_for_its_owner_only(data: Path) -> None:
    first = env.kept_secret("PROBE_SECRET", prefix="sk-")

    kept = data / "secrets" / "probe_secret"
    assert env.kept_secret("PROBE_SECRET", prefix="sk-") == first == kept.read_text()
    assert first.startswith("sk-")
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in kept.parent.iterdir()] == ["probe_secret"]


def test_secret_from_the_environment_is_not_written_down(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBE_SECRET", "given")

    assert env.kept_secret("PROBE_SECRET") == "given"
    assert not data.exists()


def test_address_of_an_embedded_server_is_read_where_it_was_written(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    assert env.running_server("REDIS_URL", "redis_url") == ""

    (data / "run").mkdir(parents=True)
    (data / "run" / "redis_url").write_text("redis://here")

    assert env.running_server("REDIS_URL", "redis_url") == "redis://here"


def test_every_variable_that_is_read_is_known_with_its_default() -> None:
    env.integer("PROBE", 3, low=1, high=9)

    assert env.NAMES.pop("PROBE") == "3"
