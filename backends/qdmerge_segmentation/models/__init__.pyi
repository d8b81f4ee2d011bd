from ._batch_norm import has_batch_norm as has_batch_norm
from ._batch_norm import reestimate_batch_norm as reestimate_batch_norm
from ._check import model_problems as model_problems
from ._load import load_segmenter as load_segmenter
from ._segmenter import Segmenter as Segmenter
from ._segmenter import predict as predict
from .modeling_unet import UNetConfig as UNetConfig
from .modeling_unet import UNetForSemanticSegmentation as UNetForSemanticSegmentation
