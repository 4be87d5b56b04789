"""Settings of Prefect servers that more than one place gives."""

from __future__ import annotations

FEWER_WRITES = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "500",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "2",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "500",
}
"""For a Prefect server on SQLite: what becomes of tasks is written every two seconds, not each state by itself.

A request to begin a flow run that meets another write there is answered "database is locked", and Prefect's client
waits two seconds until it asks again: an onboarding of a thousand recordings met one to three of them.
"""
