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
    Progress as Progress,
)
from ._sources import (
    Scheme as Scheme,
)
from ._sources import (
    SourceKind as SourceKind,
)
from ._sources import (
    build_scheme as build_scheme,
)
from ._sources import (
    fetch as fetch,
)
from ._sources import (
    find_scheme as find_scheme,
)
from ._sources import (
    is_hub_id as is_hub_id,
)
from ._sources import (
    is_local as is_local,
)
from ._sources import (
    missing as missing,
)
from ._sources import (
    scheme_name as scheme_name,
)
from ._sources import (
    scheme_names as scheme_names,
)
from ._sources import (
    scheme_of as scheme_of,
)
from ._sources import (
    silent as silent,
)
from ._task_vectors import (
    TaskVectors as TaskVectors,
)
