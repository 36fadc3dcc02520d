"""What Farebox is measured beside in every round: a bare relay on its own stack, and nginx where there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.loads import Target
from bench.ports import free_port, listens
from bench.processes import started
from bench.stage import CHAT, Stage

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr error;
worker_processes 1;
worker_rlimit_nofile 65536;
events {{ worker_connections 32768; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  upstream backend {{ server {backend}; keepalive 4096; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      client_body_buffer_size 1m;
    }}
  }}
}}
"""


@contextmanager
def bare_relay(stage: Stage) -> Iterator[Target]:
    """Farebox's own stack, relaying only."""
    command = [sys.executable, "-m", "bench.bare_relay", f"{stage.backend_url}/v1"]
    root = Path(__file__).parents[1]
    with started(command, stage.folder / "relay.log", stage.places.measured, folder=root) as relay:
        yield Target("bare relay", relay.says(r"relay at (http://\S+)")[1] + CHAT, (relay.pid,))


def nginx_program(folder: Path | None = None) -> str | None:
    """An nginx: the one below ``folder``, else one on the path."""
    ours = folder / "usr" / "sbin" / "nginx" if folder else None
    if ours is not None and ours.exists():
        return str(ours)
    return shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")


@contextmanager
def nginx(stage: Stage, program: str) -> Iterator[Target]:
    """nginx as a plain relay: one worker, kept connections, nothing buffered, no log."""
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="nginx-", dir=stage.folder))
    folder.chmod(0o755)
    backend = stage.backend_url.removeprefix("http://")
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, backend=backend, port=port))
    command = [program, "-p", str(folder), "-e", "stderr", "-c", str(config)]
    with started(command, stage.folder / "nginx.log", stage.places.measured) as run:
        run.answers(lambda: listens(port))
        yield Target("nginx", f"http://127.0.0.1:{port}{CHAT}", (run.pid,), version=nginx_version(program))


def nginx_version(program: str) -> str:
    """As it says itself."""
    said = subprocess.run([program, "-v"], capture_output=True, text=True, timeout=10)
    return (said.stderr + said.stdout).strip().rpartition("/")[2]
