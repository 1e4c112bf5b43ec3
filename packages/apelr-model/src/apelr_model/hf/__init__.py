"""The model in the transformers library, and a planner on top of that library's models.

Needs the extra `apelr-model[transformers]`. Importing this makes `AutoConfig` and `AutoModelForCausalLM` know our
models; `import apelr_model` alone never does.
"""

from importlib.util import find_spec

if find_spec("transformers") is None or find_spec("safetensors") is None:
    raise ImportError("apelr_model.hf needs transformers; install it with: pip install 'apelr-model[transformers]'")

from transformers import AutoConfig, AutoModelForCausalLM

from apelr_model.hf.cache import ApelrCache
from apelr_model.hf.configuration import ApelrConfig
from apelr_model.hf.modeling import ApelrForCausalLM, ApelrOutput
from apelr_model.hf.pretrained_executor import PretrainedExecutor
from apelr_model.hf.pretrained_planner import load_planner, planner_on, save_planner

__all__ = [
    "ApelrCache",
    "ApelrConfig",
    "ApelrForCausalLM",
    "ApelrOutput",
    "PretrainedExecutor",
    "load_planner",
    "planner_on",
    "save_planner",
]

AutoConfig.register(ApelrConfig.model_type, ApelrConfig, exist_ok=True)
AutoModelForCausalLM.register(ApelrConfig, ApelrForCausalLM, exist_ok=True)
