"""How compiled code calls oneDNN for what :func:`alf.utils.linear.linear` sends there: from C++, without Python.

Importing this tells PyTorch's compiler. It has a call of oneDNN of its own, but only for weights that do not change.
What it has made is kept on disk and found again by the name of the operator: what is made here must not change unless
that name does.
"""

from typing import Optional

import torch
from torch._inductor import ir
from torch._inductor.lowering import register_lowering
from torch._inductor.mkldnn_ir import LinearUnary

import alf.utils.linear  # noqa: F401  defines the operator


@register_lowering(torch.ops.alf.linear.default, type_promotion_kind=None)
def _linear(x: ir.TensorBox, weight: ir.TensorBox, bias: Optional[ir.TensorBox]) -> ir.TensorBox:
    """Return ``x W^T + b`` of matrices. A weight that lies transposed in memory is read as it is."""
    to_memory, in_one_piece = ir.ExternKernel.realize_input, ir.ExternKernel.require_contiguous
    x, weight = in_one_piece(to_memory(x)), to_memory(weight)
    num_outputs, num_inputs = (int(size) for size in weight.get_size())
    strides = weight.maybe_get_stride()
    if strides is None or [int(stride) for stride in strides] not in ([num_inputs, 1], [1, num_outputs]):
        weight = in_one_piece(weight)
    inputs, constants = [x, weight], ["none", [-1], ""]  # no activation, which has no arguments
    if bias is None:
        constants.insert(0, None)
    else:
        inputs.append(in_one_piece(to_memory(bias)))
    layout = ir.FixedLayout(device=x.get_device(), dtype=x.get_dtype(), size=[x.get_size()[0], num_outputs])
    return ir.TensorBox.create(LinearUnary(layout=layout, inputs=inputs, constant_args=constants))
