"""What the person at the terminal reads when everything is up."""

from __future__ import annotations

from services.supervisor.settings import Settings


def greeting(settings: Settings) -> str:
    """Where things are, and two commands to try."""
    at = f"http://{_shown(settings.host)}"
    ingest, api = f"{at}:{settings.ingest_port}", f"{at}:{settings.api_port}"
    data = settings.data_dir
    return f"""Rejse is up. Ctrl-C ends it.

  ingest   {ingest}   touchpoints in
  api      {api}   customers, stages and counts out
  stager   {at}:{settings.stager_port}   /readyz and /metrics
  keys     {data / "keys.env"}
  logs     {data / "logs"}

Try it from another terminal:

  . {data / "keys.env"}
  curl {ingest}/v1/touchpoints -H "Authorization: Bearer $REJSE_WRITE_KEY" \\
    -H 'Content-Type: application/json' \\
    -d '{{"type": "order_completed", "channel": "web", "identities": {{"email": "ida@example.com"}}}}'
  curl {api}/v1/customers/email:ida@example.com -H "Authorization: Bearer $REJSE_READ_KEY"
"""


def _shown(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
