"""Figures of a base model's memory: embeddings, and what activates it (OLTR, Figures 3, 14, 15)."""

from __future__ import annotations

import numpy as np

from alphafix.oltr.training.embedding import AVERAGED, Embedding, MemoryFigures
from alphafix.oltr.training.projection import Projection, activated_classes, infused_rows, project
from alphafix.report.pictures import Picture
from alphafix.report.style import TIER_COLORS, canvas
from alphafix.shown import in_list, in_one_line
from alphafix.values.classes import TIERS, ClassTable
from alphafix.values.display import Table

_PANELS = {"direct": "direct features", "features": "meta-embeddings"}

# Markers that keep neighbouring classes of one tier apart.
_MARKERS = "os^Dv<>P"


def memory_pictures(embedding: Embedding, classes: ClassTable) -> list[Picture]:
    """All figures that the sample allows."""
    projection = project(embedding, classes)
    found = [] if projection is None else [embedding_picture(projection, embedding.split, classes)]
    if embedding.memory is not None:
        found.append(activation_picture(embedding.memory, embedding.split, classes))
        found.append(average_picture(embedding.memory, embedding.split, classes))
    return found


def embedding_picture(projection: Projection, split: str, classes: ClassTable) -> Picture:
    """t-SNE of direct features beside that of meta-embeddings (Figure 3)."""
    tier_of = classes.tiers[projection.labels]
    shown = np.unique(projection.labels)
    with canvas(figsize=(8.6, 4.2), ncols=2) as (made, axes):
        for panel, (kind, words) in zip(axes, _PANELS.items(), strict=True):
            points = getattr(projection, kind)
            for place, label in enumerate(shown):
                mine = projection.labels == label
                panel.scatter(
                    *points[mine].T,
                    s=11,
                    marker=_MARKERS[place % len(_MARKERS)],
                    color=TIER_COLORS[TIERS[classes.tiers[label]]],
                    alpha=0.65,
                    lw=0,
                )
            panel.set_title(f"{words}\n{_silhouettes(projection, kind)}")
            panel.set_xticks([])
            panel.set_yticks([])
        for name, color in TIER_COLORS.items():
            if name in TIERS:
                axes[0].scatter([], [], s=11, color=color, label=name)
        axes[0].legend()
    rows = [
        [kind, int(label), classes.names[label], TIERS[tier_of[i]], float(x), float(y)]
        for kind in _PANELS
        for i, (label, (x, y)) in enumerate(
            zip(projection.labels, getattr(projection, kind), strict=True)
        )
    ]
    return Picture(
        "embeddings",
        "Direct features against meta-embeddings",
        f"t-SNE of {len(projection.labels)} images of {len(shown)} classes of {split}, one marker "
        "a class, in the base model. Silhouettes are taken before the projection: 1 is a "
        "class that lies together and apart from others (OLTR, Figure 3).",
        made,
        ["kind", "class", "name", "split", "x", "y"],
        rows,
    )


def _silhouettes(projection: Projection, kind: str) -> str:
    parts = [
        f"{name} n/a" if value is None else f"{name} {value:.2f}"
        for name, value in projection.compactness[kind].items()
    ]
    return "silhouette: " + ", ".join(parts)


def activation_picture(memory: MemoryFigures, split: str, classes: ClassTable) -> Picture:
    """The most and the least activated memory classes (as Figures 14 and 15)."""
    sides = activated_classes(memory)
    with canvas(figsize=(8.6, 3.8), ncols=2) as (made, axes):
        for panel, ids, words in zip(axes, sides, ("most", "least"), strict=True):
            colors = [TIER_COLORS[TIERS[classes.tiers[i]]] for i in ids]
            panel.barh(np.arange(len(ids)), memory.mean[ids], color=colors)
            names = [_plain(classes.names[i]) for i in ids]
            panel.set_yticks(np.arange(len(ids)), names)
            panel.invert_yaxis()
            panel.set_title(f"{words} activated")
            panel.set_xlabel("mean coefficient")
    order = np.argsort(-memory.mean, kind="stable")
    rows = [
        [
            int(i),
            classes.names[i],
            TIERS[classes.tiers[i]],
            int(classes.counts[i]),
            float(memory.mean[i]),
        ]
        for i in order
    ]
    return Picture(
        "memory",
        "What the memory gives",
        f"Mean coefficient of each memory class over the sampled images of {split}, coloured by "
        "split (OLTR, Eq. 1).",
        made,
        ["class", "name", "split", "training", "mean_coefficient"],
        rows,
    )


def average_picture(memory: MemoryFigures, split: str, classes: ClassTable) -> Picture:
    """Average image of what activates each of the strongest memory classes most and least."""
    count = len(memory.shown)
    with canvas(figsize=(1.1 * count + 0.6, 2.8), nrows=2, ncols=count) as (made, axes):
        panels = np.asarray(axes).reshape(2, count)
        for row, (images, words) in enumerate(((memory.most, "most"), (memory.least, "least"))):
            for panel, image, label in zip(panels[row], images, memory.shown, strict=True):
                panel.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255)
                panel.set_xticks([])
                panel.set_yticks([])
                panel.grid(visible=False)
                if row == 0:
                    panel.set_title(_plain(classes.names[label])[:16])
            panels[row][0].set_ylabel(words)
    rows = [[int(label), classes.names[label], float(memory.mean[label])] for label in memory.shown]
    return Picture(
        "memory-images",
        "What activates the memory",
        f"For the memory classes with the largest mean coefficients: the average of the (at most "
        f"{AVERAGED}) sampled images of {split} that activate each most, and of those that "
        "activate it least (OLTR, Figure 15).",
        made,
        ["class", "name", "mean_coefficient"],
        rows,
    )


def infused_table(memory: MemoryFigures, classes: ClassTable) -> Table:
    """What the rarest sampled classes get from the memory (Figure 14)."""
    rows = [
        [
            classes.names[label],
            str(classes.counts[label]),
            f"{own:.3f}",
            ", ".join(f"{in_list(classes.names[other])} ({value:.3f})" for other, value in others),
        ]
        for label, own, others in infused_rows(memory, classes)
    ]
    return Table(
        "What rare classes borrow from others",
        ["class", "training", "own", "largest others"],
        rows,
        [
            "Mean coefficients of the base model's memory over sampled images of the class: its "
            "own, and the largest of other classes (OLTR, Eq. 1, Figure 14)."
        ],
    )


def _plain(name: str) -> str:
    """A class name that acts nowhere, and that Matplotlib does not take for mathematics."""
    return in_one_line(name).replace("$", r"\$")
