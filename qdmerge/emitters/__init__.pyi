from ._build import (
    EmitterFactory as EmitterFactory,
)
from ._build import (
    EmitterSpec as EmitterSpec,
)
from ._build import (
    build_emitters as build_emitters,
)
from ._build import (
    check_emitter as check_emitter,
)
from ._build import (
    expert_of as expert_of,
)
from ._build import (
    paper_emitter as paper_emitter,
)
from ._build import (
    paper_mutation as paper_mutation,
)
from ._gradient import (
    GradientArborescence as GradientArborescence,
)
from ._gradient import (
    GradientOperator as GradientOperator,
)
from ._merge import (
    MergeEmitter as MergeEmitter,
)
