"""Steps that touch the world: store, packages, ledger, weights, reports, events.

Plain functions do the work; the ones decorated with Prefect's `task` take and return references only.
"""

import schemas  # noqa: F401  (before pandas, for Arrow's allocator)
