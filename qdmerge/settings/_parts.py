"""The parts that text names, under the names of this room."""

from __future__ import annotations

from qdmerge.parts import ARCHIVES as ARCHIVES
from qdmerge.parts import CROSSOVERS as CROSSOVERS
from qdmerge.parts import EMITTERS as EMITTERS
from qdmerge.parts import MUTATIONS as MUTATIONS
from qdmerge.parts import REGISTRIES as REGISTRIES
from qdmerge.parts import SCHEDULERS as SCHEDULERS
from qdmerge.parts import SELECTIONS as SELECTIONS
from qdmerge.parts import SPACES as SPACES
from qdmerge.parts import Entry as Entry
from qdmerge.parts import Part as Part
from qdmerge.parts import Registry as Registry
from qdmerge.parts import build_part as build_part
from qdmerge.parts import load_target as load_target
