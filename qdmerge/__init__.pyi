from .archives import ArchiveSpec as ArchiveSpec
from .archives import AxisSizing as AxisSizing
from .backend import SPLITS as SPLITS
from .backend import BackendConfig as BackendConfig
from .backend import Evaluation as Evaluation
from .backend import GenomeBackend as GenomeBackend
from .backend import Measure as Measure
from .backend import Task as Task
from .checkpoints import TaskVectors as TaskVectors
from .emitters import EmitterSpec as EmitterSpec
from .emitters import MergeEmitter as MergeEmitter
from .errors import QDMergeError as QDMergeError
from .runs import Run as Run
from .runs import load_backend as load_backend
from .schedulers import BanditScheduler as BanditScheduler
from .schedulers import Batch as Batch
from .schedulers import CycleScheduler as CycleScheduler
from .schedulers import FixedScheduler as FixedScheduler
from .search import CycleQD as CycleQD
from .search import Elite as Elite
from .settings import RunConfig as RunConfig
from .settings import load_config as load_config
from .spaces import Space as Space
from .spaces import VectorSpace as VectorSpace

__version__: str
