"""
Stand-ins for the real processes: as small as can be, so that the supervisor itself is tested.

``python -m tests.costplatform.small_programs`` is ``costplatform up`` with these.
"""

import os
import sys
from typing import Final

from costplatform import supervisor
from costplatform.processes import Process
from costplatform.programs import Programs, Site, variables_for

SEEDED: Final = (
    '{"admin_login": "admin", "admin_password": "pw-1", "demo_key": "sk-1", "demo_model": "m"}'
)
SEEDED_BEFORE: Final = (
    '{"admin_login": null, "admin_password": null, "demo_key": null, "demo_model": "m"}'
)
WEB: Final = """
import http.server, os, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(os.getpid()).encode())
server = http.server.HTTPServer(("", 0), Handler, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=int(sys.argv[1]))
server.serve_forever()
"""
WORKER: Final = """
import pathlib, signal, sys
name, notes = sys.argv[1], pathlib.Path(sys.argv[2])
def note(what):
    with notes.open("a") as file:
        file.write(f"{name} {what}\\n")
def end(*_):
    note("ended")
    sys.exit()
signal.signal(signal.SIGTERM, signal.SIG_IGN if name == "stubborn" else end)
note("started")
while True:
    signal.pause()
"""


def small_programs(site: Site) -> Programs:
    """Return the stages recorder, two webs, worker; the environment chooses what goes wrong."""
    variables = variables_for(site)
    listener = site.web.fileno()
    marker = site.data / "seeded"
    seed = (
        f"import pathlib; p = pathlib.Path({str(marker)!r}); "
        f"print({SEEDED_BEFORE!r} if p.exists() else {SEEDED!r}); p.touch()"
    )
    migrate = os.environ.get("SMALL_MIGRATE", "")

    def python(name: str, code: str, *arguments: str) -> Process:
        return Process(
            name=name,
            argv=(sys.executable, "-S", "-c", code, *arguments),
            env=variables,
            pass_fds=(listener,),
            grace_seconds=0.3 if name == "stubborn" else 10,
        )

    def worker(name: str) -> Process:
        return python(name, WORKER, name, str(site.data / "notes"))

    return Programs(
        preparations=(python("migrate", migrate), python("seed", seed)),
        stages=(
            (worker("recorder"),),
            tuple(python(name, WEB, str(listener)) for name in ("web-1", "web-2")),
            (worker("worker"), worker("stubborn")),
        ),
    )


if __name__ == "__main__":
    raise SystemExit(supervisor.up(plan=small_programs))
