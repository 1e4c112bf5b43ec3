"""A step of decoding as one compiled function of tensors whose shapes stay: hardly any Python a token."""

from collections.abc import Callable

import torch
from torch import Tensor

from apelr_model.executor import Executor
from apelr_model.fixed_carry import FixedCarry
from apelr_model.plan_state import PlanState
from apelr_model.policy import PlanPolicy
from apelr_model.precision import compiler_fails

__all__ = ["CompiledStep", "Expected", "compiled_step"]

Expected = tuple[Tensor, Tensor, Tensor, PlanState]
"""Log-probabilities [B, V], those of each plan state [B, K, V], the log-gate [B, K], the plan before the target."""
CompiledStep = Callable[[Tensor, FixedCarry, PlanState, PlanPolicy], Expected]
"""ids [B], a carry that they are written into, the plan after the target before, and the use of the belief."""
OPTIONS: dict[str, str | int | bool | Callable[..., object]] = {"realize_reads_threshold": 1}
"""The compiler keeps what several operations read in place of making it again for each: measured to be faster."""


def compiled_step(
    executor: Executor, expect: Callable[[Tensor, PlanState, PlanPolicy], Expected], device: torch.device
) -> CompiledStep:
    """The executor's step in fixed shapes and `expect` of its hidden state, as one function, compiled when called.

    Raises ValueError for an executor without such a step, and where PyTorch can compile nothing on `device`. So does
    the function where PyTorch has compiled as many kinds of batch as it allows.
    """
    executor.fixed_carry(executor.initial_carry(1), batch_size=1, room=1)
    if reason := compiler_fails(device.type):
        raise ValueError(f"decoding cannot be compiled: torch.compile makes no code for {device.type} here: {reason}")

    def step(ids: Tensor, carry: FixedCarry, plan: PlanState, policy: PlanPolicy) -> Expected:
        return expect(executor.fixed_step(ids, carry), plan, policy)

    step.__code__ = step.__code__.replace()  # PyTorch counts compilations by code object: those of each model alone
    compiled: CompiledStep = torch.compile(step, fullgraph=True, options=OPTIONS)
    from torch._dynamo import config  # not before something is compiled: it takes a second
    from torch._dynamo.exc import FailOnRecompileLimitHit

    def call(ids: Tensor, carry: FixedCarry, plan: PlanState, policy: PlanPolicy) -> Expected:
        try:
            return compiled(ids, carry, plan, policy)
        except FailOnRecompileLimitHit as error:
            limit = min(("recompile_limit", "accumulated_recompile_limit"), key=lambda name: getattr(config, name))
            raise ValueError(
                f"decoding is compiled for as many kinds of batch as PyTorch allows ({getattr(config, limit)}): "
                f"set a larger torch._dynamo.config.{limit}, or decode this one within plain_forms()"
            ) from error

    return call
