from ._catalog import (
    catalog as catalog,
)
from ._catalog import (
    catalog_kinds as catalog_kinds,
)
from ._config import (
    FinalConfig as FinalConfig,
)
from ._config import (
    RunConfig as RunConfig,
)
from ._config import (
    load_config as load_config,
)
from ._config import (
    parse_config as parse_config,
)
from ._config import (
    read_preset as read_preset,
)
from ._discovery import (
    backend_names as backend_names,
)
from ._discovery import (
    find_backend as find_backend,
)
from ._discovery import (
    find_preset as find_preset,
)
from ._discovery import (
    installed as installed,
)
from ._discovery import (
    presets as presets,
)
from ._parts import (
    ARCHIVES as ARCHIVES,
)
from ._parts import (
    CROSSOVERS as CROSSOVERS,
)
from ._parts import (
    EMITTERS as EMITTERS,
)
from ._parts import (
    MUTATIONS as MUTATIONS,
)
from ._parts import (
    SCHEDULERS as SCHEDULERS,
)
from ._parts import (
    SELECTIONS as SELECTIONS,
)
from ._parts import (
    SPACES as SPACES,
)
from ._parts import (
    Part as Part,
)
from ._parts import (
    build_part as build_part,
)
from ._presets import (
    RECIPES as RECIPES,
)
from ._presets import (
    with_changes as with_changes,
)
from ._presets import (
    with_recipe as with_recipe,
)
from ._registry import (
    Entry as Entry,
)
from ._registry import (
    Registry as Registry,
)
from ._registry import (
    explain as explain,
)
from ._registry import (
    load_target as load_target,
)
