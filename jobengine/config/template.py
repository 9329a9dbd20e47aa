"""The config file that is generated where there is none."""

import os
import tempfile
from pathlib import Path

from jobengine.config.settings import Settings

_TEMPLATE = """\
# JobEngine's config. The config is king: a queue that is removed here is deleted
# with all its jobs, within seconds where a server is running.

# The version of the API.
version: 1

# The port to listen on.
port: {port}

# The address to listen on. 127.0.0.1 serves this machine alone; "::" all networks.
# host: {host}

# The path under which a proxy offers this server; it takes that off each path.
# base_path: /jobs

# How many minutes to keep jobs that are complete or failed.
job_keep_minutes: {keep}

# How many minutes a job may be in progress without an update before it has failed.
job_timeout_minutes: {timeout}

# The largest body of a request, in bytes.
# max_body_bytes: {body}

# How many calls that read are worked on at once; calls that write need no thread.
# threads: {threads}

# How many calls may wait for a job at once.
# waiters: {waiters}

# How many seconds a client may take to send the head of a request; its body has more.
# request_seconds: {request}

# Ask each call for a key (jobengine keys create SERVICE) instead of believing X-Name.
# authentication: keys

# The names that clients call this server by, with localhost: others are refused.
# hosts:
# - jobs.example.com

# The services that may make, pause and purge queues over HTTP, and read the audit trail.
# admins:
# - ops

# The services that may read GET /metrics beside the admins; "*" is anyone.
# metrics:
# - prometheus

# How many calls a service may make; s, m or h. Single ones may have their own.
# rate_limit: 1000/s
# services:
#   nightly: {{rate_limit: 60/m}}

# Refuse to delete a queue that still holds jobs, when it is no longer named here.
# protect_nonempty: false

# The queues, and the names of the services that may read and write each, e.g.:
#
# queues:
#   emails:
#     read:
#     - mailer
#     write:
#     - shop
#     - "*"        # any service
#     job_keep_minutes: 1440   # for this queue alone
#     max_jobs: 100000         # how many may be queued or in progress
queues: {{}}
"""


def write_default(path: Path) -> None:
    """Writes a commented config with the defaults and no queues, with its directory.

    Raises OSError where that cannot be done, and FileExistsError rather than
    replace a file.
    """
    default = Settings()
    text = _TEMPLATE.format(
        port=default.port,
        host=default.host,
        keep=default.job_keep_minutes,
        timeout=default.job_timeout_minutes,
        body=default.max_body_bytes,
        threads=default.threads,
        waiters=default.waiters,
        request=default.request_seconds,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
        os.link(file.name, path)  # whole or not at all, whenever the process is killed
