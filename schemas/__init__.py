"""What things are: settings, errors, problems, references and the table contracts. Imports nothing of ours.

Light on purpose: `schemas.metadata` alone needs pandas and pandera, so it is imported where it is used.
"""

import os

# Arrow's own allocator keeps what it has freed: a table of 45 MB would leave a worker 100 MB larger for good. Arrow
# reads this when it is first imported, so it stands where every room passes before pandas.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
