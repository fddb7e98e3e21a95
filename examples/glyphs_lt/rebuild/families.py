"""Step 4: merge the family groups that are clones of each other, by their images.

Free fonts are renamed and extended often (Nimbus Roman, TeX Gyre Termes, FreeSerif). If one
were in training and another in test, test would measure memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from alphafix.values.arrays import BoolArray, FloatArray, IntArray

from .values import Face, Rendering, describe, squared_distances

# Letters to compare faces by, and how many of them two faces must share.
LETTER_SETS = (("aegnrstRSGQB25", 8), ("жфдяЖФДЯ", 5), ("αβγδξψΩΞ", 5))
# Mean squared pixel difference below which two faces draw the same design.
SAME_DESIGN = 0.004


def merge_clones(faces: Sequence[Face], rendering: Rendering) -> dict[str, str]:
    """Map every family group to the name of its merged family.

    Two groups are merged if any faces of theirs draw the same design; the name is the
    first of the members' names.
    """
    groups = sorted({face.group for face in faces})
    number = {group: i for i, group in enumerate(groups)}
    group_ids = np.array([number[face.group] for face in faces])
    pairs = [alike_faces(rendering, *letter_set) for letter_set in LETTER_SETS]
    first, second = (group_ids[column] for column in np.concatenate(pairs).T)
    links = coo_matrix((np.ones(len(first)), (first, second)), shape=(len(groups),) * 2)
    _, component = connected_components(links, directed=False)
    members = defaultdict(list)
    for group, label in zip(groups, component, strict=True):
        members[label].append(group)
    return {group: names[0] for names in members.values() for group in names}


def alike_faces(rendering: Rendering, letters: str, min_shared: int) -> IntArray:
    """Find the pairs of faces that draw some letters almost the same.

    Returns:
        P x 2 face indices.
    """
    faces, images, present = letter_table(rendering, letters)
    enough = present.sum(axis=1) >= min_shared
    faces, images, present = faces[enough], images[enough], present[enough]
    total = np.zeros((len(faces), len(faces)), np.float32)
    for column in range(len(letters)):
        both = present[:, column, None] & present[None, :, column]
        distances = squared_distances(images[:, column], images[:, column])
        total += both * distances / images.shape[2]
    shared = present.astype(np.float32) @ present.T.astype(np.float32)
    alike = (total < SAME_DESIGN * shared) & (shared >= min_shared)
    pairs: IntArray = faces[np.argwhere(np.triu(alike, k=1))]
    return pairs


def letter_table(rendering: Rendering, letters: str) -> tuple[IntArray, FloatArray, BoolArray]:
    """Lay out the descriptors of some letters by face.

    Returns:
        The indices of the faces that draw any of the letters, their descriptors (faces x
        letters x 256, zero where a letter is missing), and which are present.
    """
    code_points = [ord(letter) for letter in letters]
    rows = np.flatnonzero(np.isin(rendering.code_points, code_points))
    faces, positions = np.unique(rendering.face_ids[rows], return_inverse=True)
    columns = np.array([code_points.index(c) for c in rendering.code_points[rows]], np.int64)
    descriptors = describe(rendering.images[rows])
    images = np.zeros((len(faces), len(letters), descriptors.shape[1]), np.float32)
    present = np.zeros((len(faces), len(letters)), np.bool_)
    images[positions, columns] = descriptors
    present[positions, columns] = True
    return faces.astype(np.int64), images, present
