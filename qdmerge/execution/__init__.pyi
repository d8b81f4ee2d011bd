from ._devices import (
    device_facts as device_facts,
)
from ._devices import (
    pick_device as pick_device,
)
from ._devices import (
    pick_dtype as pick_dtype,
)
from ._evaluator import (
    Evaluator as Evaluator,
)
from ._evaluator import (
    Outcome as Outcome,
)
from ._evaluator import (
    PendingEvaluation as PendingEvaluation,
)
from ._evaluator import (
    first_ended as first_ended,
)
from ._executors import (
    Executor as Executor,
)
from ._executors import (
    ProcessExecutor as ProcessExecutor,
)
from ._executors import (
    SerialExecutor as SerialExecutor,
)
from ._executors import (
    Timed as Timed,
)
from ._executors import (
    WorkerPool as WorkerPool,
)
from ._executors import (
    limit_threads as limit_threads,
)
from ._jobs import (
    Job as Job,
)
from ._jobs import (
    Report as Report,
)
from ._jobs import (
    job_main as job_main,
)
from ._jobs import (
    run_jobs as run_jobs,
)
