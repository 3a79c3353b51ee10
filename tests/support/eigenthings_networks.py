"""The networks of pytorch-hessian-eigenthings (tests), built anew.

Its language models at 8 wide: a tiny one, and the architectures of GPT-2 and GPT-NeoX,
of which it downloads trained ones.
"""

import torch
from torch import nn

from support.building_networks import BINARY, CROSS, SQUARES, Graph, chain, dense, fed


def language(V, d, tied=False, blocks=0):
    """A causal language model: token logits (batch, S, V)."""

    def run(own, x):
        x = own.token(x)
        if blocks:
            x = x + own.place(torch.arange(x.shape[1]))
            mask = nn.Transformer.generate_square_subsequent_mask(
                x.shape[1], dtype=x.dtype
            )
            x = own.norm(own.blocks(x, mask=mask))
        else:
            x = torch.tanh(own.mix(x))
        return own.last(x)

    parts = {"token": nn.Embedding(V, d)}
    if blocks:
        layer = nn.TransformerEncoderLayer(
            *(d, 2, 4 * d),
            **{"activation": "gelu", "norm_first": True, "batch_first": True},
        )
        parts["place"] = nn.Embedding(8, d)
        parts["blocks"] = nn.TransformerEncoder(
            layer, blocks, enable_nested_tensor=False
        )
        parts["norm"] = nn.LayerNorm(d)
    else:
        parts["mix"] = nn.Linear(d, d, bias=False)
    last = nn.Linear(d, V, bias=False)
    if tied:
        last.weight = parts["token"].weight
    return Graph(run, **parts, last=last), torch.randint(V, (3, 5))


TANH = {"kind": nn.Tanh}
EIGENTHINGS = {
    "mlp 3-5-4": (lambda: fed(8, 3)(dense(3, 5, 4, **TANH)),),
    "mlp 3-5-2": (lambda: fed(8, 3)(dense(3, 5, 2, **TANH)), SQUARES),
    "mlp 4-8-8-8": (lambda: fed(8, 4)(dense(4, 8, 8, 8, **TANH)),),
    "mlp 4-6-7": (lambda: fed(8, 4)(dense(4, 6, 7, **TANH)),),
    "mlp 4-8-3, relu": (lambda: fed(8, 4)(dense(4, 8, 3)),),
    "linear 3-2": (lambda: fed(8, 3)(nn.Linear(3, 2)), SQUARES),
    "linear regression": (lambda: fed(8, 5)(nn.Linear(5, 1, bias=False)), SQUARES),
    "logistic regression": (lambda: fed(8, 5)(nn.Linear(5, 1, bias=False)), BINARY),
    "softmax regression": (lambda: fed(8, 5)(nn.Linear(5, 3, bias=False)),),
    "layer norm": (
        lambda: fed(8, 4)(chain(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))),
    ),
    "batch norm": (
        lambda: fed(8, 4)(chain(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))),
    ),
    "batch norm, last": (lambda: fed(8, 4)(chain(nn.Linear(4, 8), nn.BatchNorm1d(8))),),
    "conv, batch norm": (
        lambda: fed(2, 3, 5, 5)(chain(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))),
        CROSS,
        1,
    ),
    "tiny language model": (lambda: language(12, 8),),
    "tiny gpt, tied": (lambda: language(12, 8, tied=True, blocks=2),),
    "tiny neo-x": (lambda: language(12, 8, blocks=1),),
}
