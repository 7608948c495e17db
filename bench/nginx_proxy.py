"""nginx as a reverse proxy that does nothing else: what no gateway on one core can beat."""

import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bench.contestants import (
    MODEL,
    Contestant,
    Place,
    Unavailable,
    free_port,
    plain_environment,
    wait_until_answered,
)
from bench.load import HOST, target
from costplatform.processes import Process

NAME: Final = "nginx"
KEPT_CONNECTIONS: Final = 512


@contextmanager
def running(place: Place) -> Iterator[Contestant]:
    """
    Run nginx with one worker and a configuration of its own.

    :raises Unavailable: if it is not installed, or does not start
    """
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        raise Unavailable("nginx is not installed: apt-get install -y nginx-light")
    port = free_port()
    home = place.folder / NAME
    home.mkdir()
    config = home / "nginx.conf"
    config.write_text(configuration(port=port, upstream_port=place.upstream_port))
    process = Process(
        name=NAME,
        argv=(program, "-p", str(home), "-e", "stderr", "-c", str(config)),
        env=plain_environment(),
    )
    with place.gateway(process) as pid:
        wait_until_answered(port, "/served", place=place, process=process, pid=pid)
        yield Contestant(
            name=NAME,
            title="nginx, reverse proxy only",
            version=_version(program),
            target=target(port=port, secret="sk-nobody-asks", model=MODEL),  # noqa: S106
            pid=pid,
        )


def configuration(*, port: int, upstream_port: int) -> str:
    """Return a configuration that passes everything on at once, over kept connections."""
    # As root it would serve as another user, who may not write into the temporary folder.
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    temporary = "".join(
        f"{kind}_temp_path {kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""{user}
daemon off;
worker_processes 1;
pid nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  {temporary}
  client_body_buffer_size 1m;
  keepalive_requests 1000000000;
  upstream model {{
    server {HOST}:{upstream_port};
    keepalive {KEPT_CONNECTIONS};
    keepalive_requests 1000000000;
  }}
  server {{
    listen {HOST}:{port};
    location / {{
      proxy_pass http://model;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_request_buffering off;
    }}
  }}
}}
"""


def _version(program: str) -> str:
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=True)  # noqa: S603
    return said.stderr.strip().rpartition("/")[2]
