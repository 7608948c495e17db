"""The recorder's process: hold the lock, keep the store open, record, sweep, mirror versions."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections, connection
from redis.exceptions import RedisError

from budgets import storekeeper
from budgets.models import Partition
from spend import metrics, recorder, recovery

log = logging.getLogger(__name__)

IDLE_MS = 200
STANDBY_SECONDS = 1.0
JOINING_SECONDS = 0.1
LOST_SECONDS = 0.2
BACK_OFF_SECONDS_MAX = 10.0
CHANNEL = "costplatform_config"

Clock = Callable[[], datetime]


class Recording:
    """Runs until ``stop`` is set, and then once more until the stream is empty."""

    def __init__(self, *, clock: Clock, stop: threading.Event) -> None:
        self._clock = clock
        self._stop = stop
        self._swept_at = 0.0
        self._failures = 0

    def run(self) -> None:
        while not self._stop.is_set():
            try:
                self._run_while_leading()
                self._failures = 0
            except (DatabaseError, RedisError, recorder.LostRace, recovery.Evicting) as error:
                self._back_off(error)

    def _run_while_leading(self) -> None:
        close_old_connections()
        with storekeeper.partition_lock() as held:
            if not held:
                self._stop.wait(STANDBY_SECONDS)
                return
            judge = recovery.Judge()
            self._listen()
            while not self._stop.is_set():
                judge.beat()
                try:
                    self._record_while_open(
                        recovery.ensure_open(now=self._clock(), alive=judge.alive), judge
                    )
                except recovery.MembersJoining as error:
                    log.info("store_waits_for_members", extra={"members": str(error)})
                    self._stop.wait(JOINING_SECONDS)
                except (RedisError, storekeeper.Closed) as error:
                    # Leading goes on, and so does watching the members.
                    log.warning("store_lost", extra={"error": type(error).__name__})
                    self._stop.wait(LOST_SECONDS)

    def _record_while_open(self, partition: Partition, judge: recovery.Judge) -> None:
        """Record until told to stop, and then leave nothing in the stream: gateways stop first."""
        while not self._stop.is_set():
            judge.beat()
            self._once(partition, judge)
        self._finish(partition)

    def _once(self, partition: Partition, judge: recovery.Judge) -> None:
        if time.monotonic() - self._swept_at >= settings.RECORDER_SWEEP_SECONDS:
            self._swept_at = time.monotonic()
            self._keep_house(partition, judge)
        recorded = recorder.record_next(
            partition=partition, now=self._clock(), count=settings.RECORDER_BATCH_EVENTS_MAX
        )
        if recorded is None:
            # An empty stream looks the same in a store that was emptied.
            storekeeper.check_open(partition)
            storekeeper.wait_for_entry(after=partition.position, timeout_ms=IDLE_MS)
        self._hear_of_changes()

    def _keep_house(self, partition: Partition, judge: recovery.Judge) -> None:
        """Sweep orphans, mirror versions, and apply reloads that services have listed."""
        storekeeper.publish_versions()
        orphans = storekeeper.sweep(generation=partition.generation, alive=judge.alive)
        metrics.swept(orphans=orphans)
        if orphans:
            log.warning("orphans_swept", extra={"orphans": orphans})
        partition.refresh_from_db(fields=["revision"])
        recorder.tell_store(partition)

    def _finish(self, partition: Partition) -> None:
        while recorder.record_next(
            partition=partition, now=self._clock(), count=settings.RECORDER_BATCH_EVENTS_MAX
        ):
            pass

    def _listen(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")

    def _hear_of_changes(self) -> None:
        """Mirror versions at once when a trigger says that SQL by hand has changed something."""
        assert connection.connection is not None
        if any(True for _ in connection.connection.notifies(timeout=0)):
            storekeeper.publish_versions()

    def _back_off(self, error: Exception) -> None:
        self._failures += 1
        seconds = min(0.2 * 2**self._failures, BACK_OFF_SECONDS_MAX)
        log.warning("recorder_backs_off", extra={"error": type(error).__name__, "seconds": seconds})
        connection.close()
        self._stop.wait(seconds)
