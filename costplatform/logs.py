"""One event, one line: its name and its fields, without keys and safe against forged lines."""

import json
import logging
import re
from datetime import UTC, datetime

VALUE_CHARACTERS_MAX = 2_000
_SECRET = re.compile(r"sk-[\w-]{8,}")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message", "asctime", "taskName", "color_message",
}  # fmt: skip


class LineFormatter(logging.Formatter):
    """Formats a record as one line of JSON; what was given as ``extra`` becomes its fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage()[:VALUE_CHARACTERS_MAX],
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _SECRET.sub("sk-…", json.dumps(line, default=_shortened, ensure_ascii=True))


def _shortened(value: object) -> str:
    return str(value)[:VALUE_CHARACTERS_MAX]
