"""KFAC's factors, from the network on, by refspec and its peers; `make bench`.

All work on float64, all N = 1797 digits in one batch, the exact Fisher, biases in.
pytest-benchmark prints each method's ratio to the fastest of its group; the last test
prints the two ratios that matter: KFAC against the fastest peer, CFAC against KFAC.
Processor time of one thread, the best of the rounds: other work on the machine adds
little to it, and never subtracts.
"""

import time

import pytest

import networks

pytestmark = pytest.mark.benchmark(timer=time.process_time)
NAMES = ("a", "c")
BEST = {}


def kfac_refspec(network, X, y):
    from refspec import models
    from refspec.kronecker import kfac

    s = models.snapshot(network, X, y)
    return [kfac(s, layer.name) for layer in s.layers]


def cfac_refspec(network, X, y):
    from refspec import models
    from refspec.kronecker import cfac

    s = models.snapshot(network, X, y)
    return [cfac(s, layer.name) for layer in s.layers]


def kfac_nngeometry(model, X, y):
    import torch
    from nngeometry.metrics import FIM
    from nngeometry.object import PMatKFAC

    data = torch.utils.data.TensorDataset(X, y)
    loader = torch.utils.data.DataLoader(data, batch_size=len(X))
    return FIM(model, loader, PMatKFAC, variant="classif_logits").data


def kfac_curvlinops(model, X, y):
    import curvlinops
    import torch

    operator = curvlinops.KFACLinearOperator(
        model,
        torch.nn.CrossEntropyLoss(),
        list(model.parameters()),
        [(X, y)],
        fisher_type="type-2",
        separate_weight_and_bias=False,
        check_deterministic=False,
    )
    operator.compute_kronecker_factors()
    return operator


def kfac_backpack(model, X, y):
    import torch
    from backpack import backpack, extend, extensions

    loss = torch.nn.CrossEntropyLoss()
    with backpack(extensions.KFLR()):
        extend(loss)(extend(model)(X), y).backward()
    return [p.kflr for p in model.parameters()]


METHODS = (kfac_refspec, cfac_refspec, kfac_nngeometry, kfac_curvlinops, kfac_backpack)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", METHODS, ids=lambda f: f.__name__)
def test_cost(benchmark, name, method):
    network, X, y = networks.load(name)
    if not method.__name__.endswith("refspec"):
        import torch

        torch.set_num_threads(1)
        network = networks.as_torch(network)
        X, y = torch.tensor(X), torch.tensor(y)
    benchmark.group = f"kfac factors {name}/{len(X)}"
    benchmark.pedantic(method, (network, X, y), rounds=10, warmup_rounds=1)
    BEST[name, method.__name__] = benchmark.stats.stats.min


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", ["kfac", "cfac"])
def test_cost_of_the_factors_alone(benchmark, name, method):
    from refspec import kronecker, models

    s = models.snapshot(*networks.load(name))
    function = getattr(kronecker, method)
    benchmark.group = f"factors alone, from the snapshot {name}/{len(s.labels)}"
    benchmark.pedantic(
        lambda: [function(s, layer.name) for layer in s.layers],
        rounds=10,
        warmup_rounds=1,
    )
    BEST[name, method + "_factors"] = benchmark.stats.stats.min


def test_ratios(capsys):
    with capsys.disabled():
        print("\nprocessor time, best of 10 rounds, one thread")
        for name in NAMES:
            mine = BEST[name, "kfac_refspec"]
            peers = {
                m.__name__: BEST[name, m.__name__]
                for m in METHODS
                if not m.__name__.endswith("refspec")
            }
            first = min(peers, key=peers.get)
            cfac = BEST[name, "cfac_refspec"] / mine
            alone = BEST[name, "cfac_factors"] / BEST[name, "kfac_factors"]
            print(
                f"  {name}: KFAC {1e3 * mine:.1f} ms, {mine / peers[first]:.2f} of "
                f"{first} ({1e3 * peers[first]:.1f} ms); CFAC / KFAC {cfac:.2f} from "
                f"the network, {alone:.2f} from the snapshot"
            )
