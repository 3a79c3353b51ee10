"""The networks of ViViT 1.0 (test/settings.py), built anew, in its sizes."""

from torch import nn

from support.building_networks import ALL, BN3, SQUARES, Beside, Part, chain, dense, fed

VIVIT = {
    "two linear, relu": (
        lambda: fed(3, 7)(chain(nn.Linear(7, 6), nn.Linear(6, 5), nn.ReLU())),
    ),
    "mlp 7-6-5": (lambda: fed(3, 7)(dense(7, 6, 5)),),
    "cnn, sigmoid": (
        lambda: fed(4, 3, 6, 6)(
            chain(
                *(nn.Conv2d(3, 2, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(3, 2)),
                *(nn.Flatten(), nn.Linear(8, 5), nn.Sigmoid()),
            )
        ),
    ),
    "mlp, sigmoid": (
        lambda: fed(3, 7)(
            chain(dense(7, 6, kind=None), nn.Sigmoid(), nn.Linear(6, 5), nn.Sigmoid())
        ),
        SQUARES,
    ),
    **{
        f"linear on {len(shape)} position axes": (
            lambda shape=shape, one=one, two=two: fed(3, *shape, 5)(
                chain(nn.Linear(5, 3), one(), nn.Linear(3, 2), two(), nn.Flatten())
            ),
            SQUARES,
        )
        for shape, one, two in (
            ((4,), nn.Sigmoid, nn.Sigmoid),
            ((4, 2), nn.Tanh, nn.Tanh),
            ((4, 2, 3), nn.ReLU, nn.Sigmoid),
        )
    },
    "batch norm 1d": (
        lambda: fed(2, 3, 4)(
            chain(nn.BatchNorm1d(3), nn.Flatten(), nn.Linear(12, 3), nn.Sigmoid())
        ),
        SQUARES,
    ),
    "batch norm 2d": (
        lambda: fed(3, 2, 4, 3)(
            chain(nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(24, 3))
        ),
    ),
    "batch norm 3d": (
        lambda: fed(3, 3, 4, 1, 2)(chain(BN3(3), nn.Flatten(), nn.Linear(24, 3))),
    ),
    "batch norm after a linear": (
        lambda: fed(3, 3, 4, 1, 2)(
            chain(nn.Linear(2, 3), BN3(3), nn.Sigmoid(), nn.Flatten())
        ),
        SQUARES,
    ),
    "branches, part, padding": (
        lambda: fed(3, 7)(
            chain(
                *(nn.Linear(7, 4), nn.ReLU(), nn.ConstantPad1d(1, 0.5)),
                Beside(nn.Identity(), chain(nn.Linear(6, 8), Part(ALL, slice(0, 6)))),
                *(nn.Sigmoid(), nn.Linear(6, 4)),
            )
        ),
    ),
}
