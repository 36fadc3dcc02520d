"""Serves a GGUF file with llama.cpp's own HTTP server on a free loopback port, until standard input ends.

Run by the interpreter of `.venv-realmodel`: `python serve.py FILE`. The first line of standard output is its address.
Everything that answers a request is llama.cpp's code; here it is only told which model, and to keep to one core.
"""

from __future__ import annotations

import sys

import xllamacpp

SLOTS, CONTEXT = 2, 8192


def serve(file: str) -> None:
    """Start, say where, and wait to be told to end."""
    params = xllamacpp.CommonParams()
    params.model.path = file
    params.model_alias = {"tiny"}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel, params.n_ctx = SLOTS, SLOTS * CONTEXT
    params.n_threads_http = 8
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.endpoint_metrics = True  # its own totals, to hold against the ledger
    params.force_pure_content_parser = True  # what a random model says may look like the beginning of anything
    params.fit_params = False  # no measuring of the machine's memory
    params.cache_ram_mib = 0
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    serve(sys.argv[1])
