from ._emitter import (
    RecipeEmitter as RecipeEmitter,
)
from ._formulas import (
    dare as dare,
)
from ._formulas import (
    dare_ties as dare_ties,
)
from ._formulas import (
    slerp as slerp,
)
from ._formulas import (
    ties as ties,
)
from ._grid import (
    Axes as Axes,
)
from ._grid import (
    Mergeable as Mergeable,
)
from ._grid import (
    Recipe as Recipe,
)
from ._grid import (
    Regressing as Regressing,
)
from ._grid import (
    grid as grid,
)
from ._grid import (
    grid_size as grid_size,
)
from ._grid import (
    plain_average as plain_average,
)
from ._grid import (
    recipe_solutions as recipe_solutions,
)
from ._grid import (
    task_arithmetic as task_arithmetic,
)
from ._space import (
    DareSpace as DareSpace,
)
from ._space import (
    DareTiesSpace as DareTiesSpace,
)
from ._space import (
    RecipeSpace as RecipeSpace,
)
from ._space import (
    SlerpSpace as SlerpSpace,
)
from ._space import (
    TiesSpace as TiesSpace,
)
