"""What can go wrong with an upstream, sorted by what it may cost."""


class UpstreamNotReached(Exception):
    """Nothing was sent: the request costs nothing."""


class UpstreamBroke(Exception):
    """It was sent, and the answer did not come (in full): it may have been billed."""

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out
