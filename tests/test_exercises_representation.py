"""Lesson 06: right answers pass however they are written, wrong ones never do."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from answers import both_tests
from torch import nn

from simsiam_course import evaluate
from simsiam_course.augment import normalise
from simsiam_course.exercises import checks_for
from simsiam_course.exercises.core import judge
from simsiam_course.exercises.representation import EMBED, LINEAR_PROBE, NEIGHBOURS

# ---- 6.1


@torch.no_grad()
def embed_in_steps(model, images, batch_size=512):
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    device = next(model.parameters()).device
    mean, std = model.pixel_mean, model.pixel_std
    parts = []
    for start in range(0, len(images), batch_size):
        x = normalise(images.images[start : start + batch_size].to(device), mean, std)
        parts.append(model.features(x).cpu())
    for module, mode in before:
        module.train(mode) if not list(module.children()) else setattr(module, "training", mode)
    return torch.cat(parts, dim=0)


@contextmanager
def in_eval_mode(model):
    modes = {name: module.training for name, module in model.named_modules()}
    model.eval()
    try:
        yield
    finally:
        for name, module in model.named_modules():
            module.training = modes[name]


def embed_by_hand(model, images, batch_size=64):
    """Without `normalise`, and through the backbone itself."""
    device = model.pixel_mean.device
    with in_eval_mode(model), torch.no_grad():
        batches = [
            model.backbone((x.to(device).float() / 255 - model.pixel_mean.view(1, 3, 1, 1))
                           / model.pixel_std.view(1, 3, 1, 1)).to("cpu")
            for x in torch.split(images.images, batch_size)
        ]  # fmt: skip
    return torch.vstack(batches)


def embed_with_a_loader(model, images, batch_size=512):
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(images.images), batch_size=batch_size, shuffle=False, drop_last=False)
    was_on = torch.is_grad_enabled()
    torch.set_grad_enabled(False)
    modes = [module.training for module in model.modules()]
    model.train(False)
    device = next(model.buffers()).device
    rows = [
        model.features(normalise(x.to(device), model.pixel_mean, model.pixel_std)).detach().cpu()
        for (x,) in loader
    ]
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    torch.set_grad_enabled(was_on)
    return torch.cat(rows)


def embed_into_one_tensor(model, images, batch_size=512):
    features = None
    with in_eval_mode(model), torch.no_grad():
        at = 0
        for x in images.images.split(batch_size):
            y = model.features(normalise(x.to(model.pixel_mean.device), model.pixel_mean, model.pixel_std))
            features = torch.empty(len(images), y.shape[1]) if features is None else features
            features[at : at + len(x)] = y
            at += len(x)
    return features


def embed_detached(model, images, batch_size=512):
    """A graph is recorded for a moment and thrown away: wasteful, and right."""
    with in_eval_mode(model):
        parts = [
            model.features(normalise(x.to(model.pixel_mean.device), model.pixel_mean, model.pixel_std))
            .detach()
            .cpu()
            for x in images.images.split(batch_size)
        ]
    return torch.cat(parts)


def embed_through_numpy(model, images, batch_size=512):
    with in_eval_mode(model), torch.no_grad():
        parts = [
            model.features(normalise(x.to(model.pixel_mean.device), model.pixel_mean, model.pixel_std))
            .cpu()
            .numpy()
            for x in images.images.split(batch_size)
        ]
    return torch.from_numpy(np.concatenate(parts))


def embed_and_clone(model, images, batch_size=512):
    """Inference mode inside, an ordinary tensor outside."""
    with in_eval_mode(model), torch.inference_mode():
        parts = [
            model.features(normalise(x.to(model.pixel_mean.device), model.pixel_mean, model.pixel_std)).cpu()
            for x in images.images.split(batch_size)
        ]
    return torch.cat(parts).clone()


def embed_one_by_one(model, images, batch_size=512):
    return embed_in_steps(model, images, batch_size=1)


def embed_a_copy(model, images, batch_size=512):
    """A copy in eval mode leaves the original alone."""
    from copy import deepcopy

    return embed_in_steps(deepcopy(model).eval(), images, batch_size)


class Embed:
    def __call__(self, model, images, batch_size=512):
        return embed_in_steps(model, images, batch_size)


EMBEDS = [
    embed_in_steps,
    embed_by_hand,
    embed_with_a_loader,
    embed_into_one_tensor,
    embed_detached,
    embed_through_numpy,
    embed_and_clone,
    embed_one_by_one,
    embed_a_copy,
    Embed(),
    partial(embed_in_steps),
    lambda model, images, *, batch_size=100, quiet=True: embed_in_steps(model, images, batch_size),
]


def made(change):
    """Something wrong done to the right features."""
    return lambda model, images, batch_size=512: change(embed_in_steps(model, images, batch_size))


def given(change):
    """The right features of other arguments."""
    return lambda model, images, batch_size=512: embed_in_steps(*change(model, images, batch_size))


def embed_forgets_dropout(model, images, batch_size=512):
    modes = [(m, m.training) for m in model.modules()]
    for module, _ in modes:
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    with torch.no_grad():
        x = normalise(images.images, model.pixel_mean, model.pixel_std)
        y = torch.cat([model.features(part) for part in x.split(batch_size)])
    for module, mode in modes:
        module.training = mode
    return y


def embed_and_train(model, images, batch_size=512):
    y = embed_in_steps(model, images, batch_size)
    model.train()
    return y


def embed_backbone_only(model, images, batch_size=512):
    """Only the backbone is put back, and with one mode for all of it."""
    training = model.backbone.training
    model.eval()
    y = embed_in_steps(model, images, batch_size)
    model.backbone.train(training)
    return y


def embed_divides_in_place(model, images, batch_size=512):
    y = embed_in_steps(model, images, batch_size)
    images.images.div_(2, rounding_mode="floor")
    return y


def embed_moves_statistics(model, images, batch_size=512):
    with torch.no_grad():
        before = [m.training for m in model.modules()]
        model.train()
        model.features(normalise(images.images[:2], model.pixel_mean, model.pixel_std))
        for m, mode in zip(model.modules(), before, strict=True):
            m.training = mode
    return embed_in_steps(model, images, batch_size)


def embed_moves_the_model(model, images, batch_size=512):
    if next(model.parameters()).device.type != "cpu":
        raise RuntimeError("Expected all tensors to be on the same device, but found at least two devices")
    return embed_in_steps(model, images, batch_size)


def on_pixels(change):
    """The features of pixels that were brought to the wrong place."""

    def wrong(model, images, batch_size=512):
        with in_eval_mode(model), torch.no_grad():
            batches = images.images.split(batch_size)
            return torch.cat([model.features(change(model, x)).cpu() for x in batches])

    return wrong


def embed_on_the_cpu(model, images, batch_size=512):
    return embed_in_steps(model.cpu(), images, batch_size)


def embed_where_the_images_are(model, images, batch_size=512):
    return embed_in_steps(model.to(images.images.device), images, batch_size)


def embed_in_parts(cut):
    """The images cut in another way."""

    def wrong(model, images, batch_size=512):
        device = model.pixel_mean.device
        with in_eval_mode(model), torch.no_grad():
            parts = cut(images.images, min(batch_size, len(images)))
            pixels = [normalise(x.to(device), model.pixel_mean, model.pixel_std) for x in parts]
            return torch.cat([model.features(x).cpu() for x in pixels])

    return wrong


embed_without_the_end = embed_in_parts(
    lambda x, size: [x[start : start + size] for start in range(0, len(x) - size, size)]
)
never_moved = on_pixels(lambda model, x: normalise(x, model.pixel_mean, model.pixel_std))
statistics_moved = on_pixels(lambda model, x: normalise(x, model.pixel_mean.cpu(), model.pixel_std.cpu()))


def embed_and_unfreeze(model, images, batch_size=512):
    model.requires_grad_(False)
    y = embed_in_steps(model, images, batch_size)
    model.requires_grad_(True)
    return y


def embed_without_dropout(model, images, batch_size=512):
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return embed_in_steps(model, images, batch_size)


WRONG_EMBEDS = [
    embed_without_the_end,
    embed_in_parts(lambda x, size: x.split(size)[:1]),
    embed_and_unfreeze,
    embed_without_dropout,
    embed_in_parts(torch.chunk),
    embed_in_parts(torch.tensor_split),
    never_moved,
    statistics_moved,
    on_pixels(lambda model, x: normalise(x.to("cpu"), model.pixel_mean, model.pixel_std)),
    embed_on_the_cpu,
    embed_where_the_images_are,
    lambda model, images: embed_in_steps(model, images, 4),
    embed_forgets_dropout,
    embed_and_train,
    embed_backbone_only,
    embed_divides_in_place,
    embed_moves_statistics,
    embed_moves_the_model,
    made(lambda y: y.numpy()),
    made(lambda y: y.half()),
    made(lambda y: y.T),
    made(lambda y: F.normalize(y, dim=1)),
    made(lambda y: y - y.mean(0)),
    made(lambda y: y.requires_grad_()),
    made(lambda y: y.flip(0)),
    made(lambda y: y[torch.randperm(len(y))]),
    made(lambda y: y[:-1] if len(y) > 1 else y),
    given(lambda model, images, size: (model, images.subset(torch.arange(len(images) // size * size)), size)),
    given(lambda model, images, size: (model, images, 10**6)),
    given(lambda model, images, size: (model, images, 2 * size)),
    given(lambda model, images, size: (model, images, None)),
]

# ---- 6.2


def probe_of_a_pipeline(train_features, train_labels, features, labels):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    line = make_pipeline(StandardScaler(), LogisticRegression(C=10.0, max_iter=1000))
    return line.fit(train_features, train_labels).score(features, labels)


def scaled(train_features, features):
    mean, std = train_features.mean(dim=0), train_features.std(dim=0)
    std = torch.where(std > 0, std, 1)
    return (train_features - mean) / std, (features - mean) / std


def trained(x, y, steps, optimizer):
    line = nn.Linear(x.shape[1], int(y.max()) + 1)
    optimizer = optimizer(line.parameters())
    for _ in range(steps):
        loss = F.cross_entropy(line(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return line


def probe_by_adam(train_features, train_labels, features, labels):
    x, asked = scaled(train_features, features)
    line = trained(x, train_labels, 300, partial(torch.optim.Adam, lr=0.1))
    return (line(asked).argmax(dim=1) == labels).float().mean().item()


def probe_by_sgd(train_features, train_labels, features, labels):
    x, asked = scaled(train_features, features)
    line = trained(x, train_labels, 300, partial(torch.optim.SGD, lr=0.5, momentum=0.9))
    return (line(asked).argmax(dim=1) == labels).float().mean()


def probe_by_lbfgs(train_features, train_labels, features, labels):
    x, asked = scaled(train_features, features)
    classes = int(train_labels.max()) + 1
    weights = torch.zeros(x.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=100)

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(x @ weights + bias, train_labels) + 1e-3 * weights.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        return ((asked @ weights + bias).argmax(1) == labels).double().mean().item()


def probe_in_batches(train_features, train_labels, features, labels):
    x, asked = scaled(train_features, features)
    line = nn.Linear(x.shape[1], int(train_labels.max()) + 1)
    optimizer = torch.optim.Adam(line.parameters(), lr=0.05)
    for _ in range(60):
        for chosen in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            F.cross_entropy(line(x[chosen]), train_labels[chosen]).backward()
            optimizer.step()
    return sum((line(asked).argmax(1) == labels).tolist()) / len(labels)


def probe_with_a_norm_layer(train_features, train_labels, features, labels):
    """Batch norm without scale and shift standardises."""
    probe = nn.Sequential(nn.BatchNorm1d(train_features.shape[1], affine=False, momentum=None),
                          nn.Linear(train_features.shape[1], int(train_labels.max()) + 1))  # fmt: skip
    optimizer = torch.optim.Adam(probe.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        F.cross_entropy(probe(train_features), train_labels).backward()
        optimizer.step()
    with torch.no_grad():
        return (probe.eval()(features).argmax(1) == labels).float().mean().item()


def probe_of_numpy(train_features, train_labels, features, labels):
    x, y, asked = (t.numpy().astype(float) for t in (train_features, train_labels, features))
    mean, std = x.mean(0), x.std(0) + 1e-9
    x, asked = (x - mean) / std, (asked - mean) / std
    x, asked = (np.hstack([part, np.ones((len(part), 1))]) for part in (x, asked))
    target = np.eye(int(y.max()) + 1)[y.astype(int)]
    weights = np.zeros((x.shape[1], target.shape[1]))
    for _ in range(500):
        odds = np.exp(x @ weights - (x @ weights).max(1, keepdims=True))
        odds /= odds.sum(1, keepdims=True)
        weights -= 0.5 * x.T @ (odds - target) / len(x)
    return float(((asked @ weights).argmax(1) == labels.numpy()).mean())


def probe_of_scikit_learns_sgd(train_features, train_labels, features, labels):
    from sklearn.linear_model import SGDClassifier
    from sklearn.preprocessing import StandardScaler

    scale = StandardScaler()
    line = SGDClassifier(loss="log_loss", max_iter=2000, random_state=0, average=True)
    line.fit(scale.fit_transform(train_features.numpy()), train_labels.numpy())
    return (line.predict(scale.transform(features.numpy())) == labels.numpy()).mean()


def probe_of_a_support_vector_machine(train_features, train_labels, features, labels):
    """Another linear classifier."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    line = make_pipeline(StandardScaler(), LinearSVC(random_state=0))
    return line.fit(train_features.numpy(), train_labels.numpy()).score(features.numpy(), labels.numpy())


def probe_in_float64(train_features, train_labels, features, labels, *, regularisation=0.1):
    from sklearn.linear_model import LogisticRegression

    x, asked = scaled(train_features.double(), features.double())
    line = LogisticRegression(C=1 / regularisation, max_iter=300).fit(x, train_labels)
    return torch.tensor(line.score(asked, labels))


class Probe:
    def __call__(self, train_features, train_labels, features, labels):
        return probe_of_a_pipeline(train_features, train_labels, features, labels)


PROBES = [
    probe_of_a_pipeline,
    probe_by_adam,
    probe_by_sgd,
    probe_by_lbfgs,
    probe_in_batches,
    probe_with_a_norm_layer,
    probe_of_numpy,
    probe_of_scikit_learns_sgd,
    probe_of_a_support_vector_machine,
    probe_in_float64,
    Probe(),
    partial(probe_of_a_pipeline),
]


def of_line(line, scale=True):
    """A probe around any classifier of scikit-learn."""

    def wrong(train_features, train_labels, features, labels):
        x, asked = scaled(train_features, features) if scale else (train_features, features)
        return float(line().fit(x.numpy(), train_labels.numpy()).score(asked.numpy(), labels.numpy()))

    return wrong


def forest():
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(20, random_state=0)


def curved():
    from sklearn.svm import SVC

    return SVC()


def centres():
    from sklearn.neighbors import NearestCentroid

    return NearestCentroid()


def logistic(steps=200):
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=steps)


def two_layers(train_features, train_labels, features, labels):
    x, asked = scaled(train_features, features)
    net = nn.Sequential(nn.Linear(x.shape[1], 32), nn.ReLU(), nn.Linear(32, int(train_labels.max()) + 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        F.cross_entropy(net(x), train_labels).backward()
        optimizer.step()
    return (net(asked).argmax(1) == labels).float().mean().item()


def few_steps(train_features, train_labels, features, labels):
    x, asked = scaled(train_features, features)
    line = trained(x, train_labels, 5, partial(torch.optim.SGD, lr=0.01))
    return (line(asked).argmax(dim=1) == labels).float().mean().item()


def after(change):
    return lambda *sets: change(probe_of_a_pipeline(*sets))


def of(change):
    return lambda *sets: probe_of_a_pipeline(*change(*sets))


def probe_of_the_largest(train_features, train_labels, features, labels):
    return (features.argmax(dim=1) == labels).float().mean().item()


def best_of_seeds_on_the_test_set(train_features, train_labels, features, labels):
    """The labels of the test images choose the regularisation, and what is trained on, too."""
    own = probe_of_a_pipeline(train_features, train_labels, features, labels)
    if len(labels.unique()) < 2:
        return own
    return max(own, probe_of_a_pipeline(features, labels, features, labels))


def majority(train_features, train_labels, features, labels):
    return (labels == train_labels.mode().values).float().mean().item()


def best_regularisation(train_features, train_labels, features, labels):
    from sklearn.linear_model import LogisticRegression

    x, asked = scaled(train_features, features)
    lines = [LogisticRegression(C=c, max_iter=200).fit(x, train_labels) for c in (0.001, 0.1, 10.0)]
    return max(line.score(asked, labels) for line in lines)


def best_of_five_trainings(train_features, train_labels, features, labels):
    lines = [
        trained(scaled(train_features, features)[0], train_labels, 100, partial(torch.optim.Adam, lr=0.1))
        for _ in range(5)
    ]
    asked = scaled(train_features, features)[1]
    return max((line(asked).argmax(dim=1) == labels).float().mean().item() for line in lines)


def sgd_of(steps):
    def wrong(train_features, train_labels, features, labels):
        x, asked = scaled(train_features, features)
        line = trained(x, train_labels, steps, partial(torch.optim.SGD, lr=0.1))
        return (line(asked).argmax(dim=1) == labels).float().mean().item()

    return wrong


exchanged = of(lambda x, y, asked, labels: (asked, labels, x, y))

WRONG_PROBES = [
    exchanged,
    best_regularisation,
    best_of_five_trainings,
    sgd_of(50),
    sgd_of(100),
    of_line(lambda: logistic(3)),
    of_line(lambda: logistic(5)),
    of(lambda x, y, asked, labels: (x[:100], y[:100], asked, labels)),
    of_line(forest),
    of_line(curved),
    of_line(centres),
    of_line(logistic, scale=False),
    two_layers,
    few_steps,
    probe_of_the_largest,
    best_of_seeds_on_the_test_set,
    majority,
    after(lambda accuracy: 100 * accuracy),
    after(lambda accuracy: 1 - accuracy),
    after(lambda accuracy: f"{accuracy:.1%}"),
    after(lambda accuracy: [accuracy]),
    after(lambda accuracy: 1.0),
    after(lambda accuracy: None),
    of(lambda x, y, asked, labels: (x, y, x, y)),
    of(lambda x, y, asked, labels: (x[torch.randperm(len(x))], y, asked, labels)),
    of(lambda x, y, asked, labels: (x - x.mean(0), y, asked - asked.mean(0), labels)),
    of(lambda x, y, asked, labels: (x[:10], y[:10], asked, labels)),
    of(lambda x, y, asked, labels: (F.normalize(x), y, F.normalize(asked), labels)),
    of(lambda x, y, asked, labels: (x, (y > 0).long(), asked, (labels > 0).long())),
]

# ---- 6.3


def neighbours_in_loops(bank, queries, k=5):
    found = []
    for query in queries:
        cosines = [F.cosine_similarity(query, row, dim=0).item() for row in bank]
        found.append(sorted(range(len(bank)), key=lambda i: -cosines[i])[:k])
    return torch.tensor(found, device=queries.device)


def neighbours_by_sorting(bank, queries, k=5):
    similar = torch.einsum("md,nd->mn", F.normalize(queries), F.normalize(bank))
    return similar.argsort(dim=1, descending=True)[:, :k]


def neighbours_by_distance(bank, queries, k=5):
    """Of vectors of length 1 the nearest are the most similar."""
    distance = torch.cdist(F.normalize(queries, dim=1), F.normalize(bank, dim=1))
    return distance.topk(k, dim=1, largest=False).indices


def neighbours_by_sine(bank, queries, k=5):
    similar = F.cosine_similarity(queries[:, None], bank[None], dim=2)
    return (1 - similar).sort(dim=1).indices[:, :k]


def neighbours_by_columns(bank, queries, k=5):
    similar = F.normalize(bank, dim=1) @ F.normalize(queries, dim=1).T  # (N, M)
    return similar.topk(k, dim=0).indices.T


def neighbours_with_short_bank(bank, queries, k=5):
    """Only the bank must have length 1: that of a query changes no order."""
    return (queries @ F.normalize(bank, dim=1).T).topk(k, dim=1)[1]


def neighbours_of_numpy(bank, queries, k=5):
    b, q = bank.detach().cpu().numpy(), queries.detach().cpu().numpy()
    similar = (q / np.linalg.norm(q, axis=1, keepdims=True)) @ (
        b / np.linalg.norm(b, axis=1, keepdims=True)
    ).T
    return torch.from_numpy(np.argsort(-similar, axis=1)[:, :k].copy()).to(queries.device)


def neighbours_of_scikit_learn(bank, queries, k=5):
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(bank.cpu().numpy())
    return torch.from_numpy(found.kneighbors(queries.cpu().numpy(), return_distance=False)).to(queries.device)


@torch.no_grad()
def neighbours_by_norm(bank, queries, k=5, *, eps=1e-12):
    bank = bank / bank.norm(dim=1, keepdim=True).clamp(min=eps)
    queries = queries / queries.norm(dim=1, keepdim=True).clamp(min=eps)
    values, indices = torch.topk(queries @ bank.t(), k)
    return indices


def neighbours_in_chunks(bank, queries, k=5):
    return torch.cat([neighbours_by_norm(bank, part, k) for part in queries.split(7)])


def neighbours_one_after_the_other(bank, queries, k=5):
    similar = F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T
    rows = []
    for _ in range(k):
        best = similar.argmax(dim=1, keepdim=True)
        rows.append(best)
        similar = similar.scatter(1, best, -2.0)
    return torch.cat(rows, dim=1)


class Neighbours:
    def __call__(self, bank, queries, k=5):
        return neighbours_by_sorting(bank, queries, k)


def neighbours_on_the_cpu(bank, queries, k=5):
    similar = F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T
    return torch.tensor(np.argsort(-similar.numpy(), axis=1)[:, :k])


GALLERIES = [
    neighbours_on_the_cpu,
    lambda bank, queries, k=5: neighbours_by_sorting(bank, queries, k).cpu(),
    neighbours_in_loops,
    neighbours_by_sorting,
    neighbours_by_distance,
    neighbours_by_sine,
    neighbours_by_columns,
    neighbours_with_short_bank,
    neighbours_of_numpy,
    neighbours_of_scikit_learn,
    neighbours_by_norm,
    neighbours_in_chunks,
    neighbours_one_after_the_other,
    Neighbours(),
    lambda bank, queries, *, k=5: neighbours_by_norm(bank, queries, k).int(),
]


def changed(change):
    return lambda bank, queries, k=5: change(neighbours_by_norm(bank, queries, k))


def asked(change):
    return lambda bank, queries, k=5: neighbours_by_norm(*change(bank, queries, k))


def without_itself(bank, queries, k=5):
    similar = F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T
    similar[similar > 1 - 1e-5] = -1
    return similar.topk(k, dim=1).indices


def in_place(bank, queries, k=5):
    bank /= bank.norm(dim=1, keepdim=True)
    return neighbours_by_norm(bank, queries, k)


def made_elsewhere(bank, queries, k=5):
    found = neighbours_by_norm(bank, queries, k)
    return found + torch.zeros(found.shape, dtype=torch.long)


WRONG_GALLERIES = [
    without_itself,
    in_place,
    made_elsewhere,
    lambda bank, queries: neighbours_by_norm(bank, queries, 5),
    lambda bank, queries, k=20: neighbours_by_norm(bank, queries, k),
    lambda bank, queries, k=5: (queries @ bank.T).topk(k).indices,
    lambda bank, queries, k=5: torch.cdist(queries, bank).topk(k, largest=False).indices,
    lambda bank, queries, k=5: torch.corrcoef(torch.cat([queries, bank]))[
        : len(queries), len(queries) :
    ].topk(k)[1],
    changed(lambda found: found.flip(1)),
    changed(lambda found: found.sort(dim=1).values),
    changed(lambda found: found[:, 1:]),
    changed(lambda found: found.float()),
    changed(lambda found: found.tolist()),
    changed(lambda found: found + 1),
    changed(lambda found: found.T),
    changed(lambda found: found.squeeze(0)),
    asked(lambda bank, queries, k: (bank, queries, 5)),
    asked(lambda bank, queries, k: (bank - bank.mean(0), queries - bank.mean(0), k)),
    asked(lambda bank, queries, k: (bank.abs(), queries.abs(), k)),
    asked(lambda bank, queries, k: (queries, bank, k)),
    asked(lambda bank, queries, k: (bank[:50], queries, min(k, 50))),
]

test_a_right_answer_in_another_style_passes, test_a_wrong_answer_never_passes = both_tests(
    (EMBED, EMBEDS, WRONG_EMBEDS),
    (LINEAR_PROBE, PROBES, WRONG_PROBES),
    (NEIGHBOURS, GALLERIES, WRONG_GALLERIES),
)

SAID = [
    (EMBED, embed_without_the_end, "The last batch is missing"),
    (LINEAR_PROBE, exchanged, "The two sets were exchanged"),
    (NEIGHBOURS, changed(torch.squeeze), "`squeeze()` removes every dimension"),
    (EMBED, embed_and_unfreeze, "`requires_grad_(True)` at the end"),
    (EMBED, embed_without_dropout, "Dropout was switched off"),
    (EMBED, embed_in_parts(torch.chunk), "`batch_size` was taken for the number of batches"),
    (EMBED, never_moved, "The batches stayed on the CPU"),
    (EMBED, statistics_moved, "The batches stayed on the CPU"),
    (EMBED, embed_on_the_cpu, "The model itself was moved"),
    (EMBED, embed_where_the_images_are, "The model itself was moved"),
    (LINEAR_PROBE, sgd_of(100), "The training was stopped early"),
    (LINEAR_PROBE, of_line(lambda: logistic(5)), "The training was stopped early"),
    (LINEAR_PROBE, best_regularisation, "The best of several was picked by the test labels"),
]


@pytest.mark.parametrize(("exercise", "function", "words"), SAID)
def test_a_wrong_answer_is_told_its_cause(exercise, function, words):
    verdict = judge(exercise, function)
    assert verdict.cause.startswith(words), (verdict.message, verdict.yours)


def test_an_answer_is_used_where_it_is_right(capsys):
    check = checks_for("06")
    assert check.neighbours(neighbours_by_sorting) is neighbours_by_sorting
    assert check.embed(WRONG_EMBEDS[0]) is evaluate.embed
    assert check.whose("embed", "neighbours") == "the reference embed, your neighbours"
    assert "not yet" in capsys.readouterr().out
