"""What is said at the terminal when all is up: where to go, and with which login and key."""

import json
import socket

from costplatform import env, ports
from costplatform.programs import Site


def reachable(web: socket.socket) -> tuple[str, int]:
    """Return where this machine reaches ``web``: a socket bound to all addresses is here too."""
    host, port = web.getsockname()[:2]
    return {"0.0.0.0": ports.LOOPBACK, "::": "::1"}.get(host, host), port  # noqa: S104


def web_url(web: socket.socket) -> str:
    host, port = reachable(web)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def hints(site: Site, seeded: dict[str, str | None]) -> list[str]:
    """Return what to do next; what was made at this start is shown now and never again."""
    url = web_url(site.web)
    lines = ["", f"Admin       {url}/admin/"]
    if seeded.get("admin_password"):
        lines += [
            f"  login     {seeded['admin_login']}",
            f"  password  {seeded['admin_password']}    (shown only now)",
        ]
    lines += _master_key(site, shown=bool(seeded.get("admin_password")))
    if seeded.get("demo_key"):
        lines += ["Try a call:", *_curl(url, key=seeded["demo_key"], model=seeded["demo_model"])]
    return [*lines, ""]


def _master_key(site: Site, *, shown: bool) -> list[str]:
    if env.given("COSTPLATFORM_MASTER_KEY") is not None:
        return ["Master key  as COSTPLATFORM_MASTER_KEY says"]
    path = site.data / "secrets" / "costplatform_master_key"
    if shown and path.exists():
        return [f"Master key  {path.read_text().strip()}    (kept in {path})"]
    return [f"Master key  in {path}"]


def _curl(url: str, *, key: str | None, model: str | None) -> list[str]:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
    return [
        f"  curl {url}/v1/chat/completions \\",
        f"    -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\",
        f"    -d '{body}'",
    ]
