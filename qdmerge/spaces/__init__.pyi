from ._base import (
    Space as Space,
)
from ._base import (
    VectorSpace as VectorSpace,
)
from ._calibration import (
    Calibration as Calibration,
)
from ._core import (
    CoreSpace as CoreSpace,
)
from ._layer import (
    ExpertSpace as ExpertSpace,
)
from ._layer import (
    LayerSpace as LayerSpace,
)
from ._regmean import (
    RegMeanSpace as RegMeanSpace,
)
from ._similarity import (
    singular_value_similarity as singular_value_similarity,
)
from ._similarity import (
    task_vector_cosine as task_vector_cosine,
)
from ._spectral import (
    SpectralCoordinates as SpectralCoordinates,
)
from ._spectral import (
    SpectralSpace as SpectralSpace,
)
from ._weights import (
    LinearSpace as LinearSpace,
)
from ._weights import (
    Merger as Merger,
)
from ._weights import (
    WeightSpace as WeightSpace,
)
