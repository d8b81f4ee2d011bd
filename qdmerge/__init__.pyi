from .archives import ArchiveSpec as ArchiveSpec
from .archives import AxisSizing as AxisSizing
from .backend import BackendConfig as BackendConfig
from .backend import Evaluation as Evaluation
from .backend import GenomeBackend as GenomeBackend
from .backend import Measure as Measure
from .backend import Task as Task
from .emitters import EmitterSpec as EmitterSpec
from .emitters import MergeEmitter as MergeEmitter
from .errors import QDMergeError as QDMergeError
from .runs import load_backend as load_backend
from .schedulers import Batch as Batch
from .search import CycleQD as CycleQD
from .search import Elite as Elite

__version__: str
