from ._figures import (
    comparison_chart as comparison_chart,
)
from ._figures import (
    comparison_curves as comparison_curves,
)
from ._figures import (
    comparison_fronts as comparison_fronts,
)
from ._figures import (
    draw_comparison as draw_comparison,
)
from ._methods import (
    METHODS as METHODS,
)
from ._methods import (
    Method as Method,
)
from ._methods import (
    find_methods as find_methods,
)
from ._plan import (
    PlannedRun as PlannedRun,
)
from ._plan import (
    make_test_beds as make_test_beds,
)
from ._populations import (
    M2N2Emitter as M2N2Emitter,
)
from ._populations import (
    NSGA2Emitter as NSGA2Emitter,
)
from ._rivals import (
    CMAESEmitter as CMAESEmitter,
)
from ._rivals import (
    RandomEmitter as RandomEmitter,
)
from ._study import (
    Study as Study,
)
from ._tables import (
    write_comparison as write_comparison,
)
