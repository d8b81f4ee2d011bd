from ._checkpoint import (
    Checkpoint as Checkpoint,
)
from ._checkpoint import (
    as_matrix as as_matrix,
)
from ._checkpoint import (
    weights_digest as weights_digest,
)
from ._experts import (
    checkpoint_problems as checkpoint_problems,
)
from ._sources import (
    fetch as fetch,
)
from ._sources import (
    is_hub_id as is_hub_id,
)
from ._sources import (
    missing as missing,
)
from ._task_vectors import (
    TaskVectors as TaskVectors,
)
