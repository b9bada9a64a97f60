"""ADBench's hand model: its expected Jacobians and ours, both judged in exact arithmetic.

    git clone https://github.com/microsoft/ADBench
    python -m tests.reference.adbench ADBench

None of its code or data is here: the model, the two points of its tests and the Jacobians that they expect
are read from the checkout; the objective is written from its description, as one writes it in NumPy. The
mixture and the bundle adjustment, whose numbers are few, are in `test_objectives.py`.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffverify import gradcheck
from ffverify.reference import jacobian

FINGERS, JOINTS = 5, 3


def rotation(x: Any, z: Any, y: Any) -> Any:
    """Rz Ry Rx."""
    cx, cy, cz = map(np.cos, (x, y, z))
    sx, sy, sz = map(np.sin, (x, y, z))
    rows = [
        [cz * cy, -cz * sy * sx - sz * cx, sz * sx - cz * sy * cx],
        [sz * cy, cz * cx - sz * sy * sx, -sz * sy * cx - cz * sx],
        [sy, cy * sx, cy * cx],
    ]
    return np.stack([np.stack(row) for row in rows])


def turned(axis_angle: Any) -> Any:
    """Rodrigues' formula."""
    n = np.sqrt(np.sum(axis_angle**2))
    x, y, z = axis_angle / n
    zero = 0.0 * x
    cross = np.stack([np.stack(row) for row in ([zero, -z, y], [z, zero, -x], [-y, x, zero])])
    return np.eye(3) + np.sin(n) * cross + (1 - np.cos(n)) * (cross @ cross)


@dataclass
class Hand:
    """The model, and where the points that were measured should lie."""

    parents: list[int]
    relative: Any
    inverse: Any
    vertices: Any  # homogeneous
    weights: Any  # of each bone at each vertex
    triangles: Any
    nearest: Any
    measured: Any

    def placed(self, theta: Any, chosen: Any) -> Any:
        """Give vertices of the hand in the pose of 26 angles and shifts."""
        zero = 0.0 * theta[0]
        angles = [(zero, zero, zero)] * len(self.parents)
        rest = iter(theta[6:])
        for finger in range(FINGERS):
            for joint in range(JOINTS):
                bend, spread = next(rest), next(rest) if joint == 0 else zero
                angles[2 + finger * (JOINTS + 1) + joint] = (bend, spread, zero)
        poses: list[Any] = []
        for bone, parent in enumerate(self.parents):
            turn = np.eye(4) + zero
            turn[:3, :3] = rotation(*angles[bone])
            pose = self.relative[bone] @ turn
            poses.append(pose if parent == -1 else poses[parent] @ pose)
        moved = sum(
            self.weights[chosen, bone, None] * (self.vertices[chosen] @ (pose @ inverse).T)
            for bone, (pose, inverse) in enumerate(zip(poses, self.inverse, strict=True))
        )
        return moved[:, :3] @ turned(theta[:3]).T + theta[3:6]

    def simple(self, theta: Any) -> Any:
        """Give the distances from the nearest vertices."""
        return np.ravel(self.measured - self.placed(theta, self.nearest))

    def complicated(self, parameters: Any) -> Any:
        """Give the distances from points inside triangles, whose two coordinates come first."""
        n = len(self.measured)
        u, theta = np.reshape(parameters[: 2 * n], (n, 2)), parameters[2 * n :]
        corners = self.triangles[self.nearest]
        at = np.reshape(self.placed(theta, np.ravel(corners)), (n, 3, 3))
        inside = u[:, :1] * at[:, 0] + u[:, 1:] * at[:, 1] + (1 - u[:, :1] - u[:, 1:]) * at[:, 2]
        return np.ravel(self.measured - inside)


def read(data: Path, name: str) -> tuple[Hand, Any]:
    """Give the model with the points of a file, and the file's parameters."""
    lines = [line.split(":") for line in (data / "model" / "bones.txt").read_text().split()]
    numbers = np.array([[float(x) for x in line[2:34]] for line in lines])
    vertices, weights = [], []
    for line in (data / "model" / "vertices.txt").read_text().split():
        parts = line.split(":")
        vertices.append([*map(float, parts[:3]), 1.0])
        weights.append(np.zeros(len(lines)))
        for bone, weight in zip(parts[9::2], parts[10::2], strict=False):
            weights[-1][int(bone)] = float(weight)
    rows = [line.split() for line in (data / name).read_text().splitlines()]
    n = int(rows[0][0])
    points = np.array(rows[1 : 1 + n], float)
    hand = Hand(
        [int(line[1]) for line in lines], numbers[:, :16].reshape(-1, 4, 4),
        numbers[:, 16:].reshape(-1, 4, 4), np.array(vertices), np.array(weights),
        np.loadtxt(data / "model" / "triangles.txt", int, delimiter=":"), points[:, 0].astype(int),
        points[:, 1:],
    )  # fmt: skip
    return hand, np.array([float(x) for row in rows[1 + n :] for x in row])


def main(checkout: str) -> int:
    """Print the verdict on both Jacobians, and by how many of their last digits they differ."""
    root, failed = Path(checkout), False
    text = (root / "test/cpp/modules/common/HandTests.cpp").read_text()
    expected = [
        re.findall(r"-?\d[\d.e+-]*", part)
        for part in re.findall(r"expectedJ\s*{(.*?)}", text, re.DOTALL)
    ]
    files = {"simple": "test.txt", "complicated": "hand_complicated.txt"}
    for numbers, (kind, name) in zip(expected, files.items(), strict=True):
        hand, at = read(root / "data" / "hand", name)
        f = getattr(hand, kind)
        theirs = np.array(numbers, float).reshape(-1, hand.measured.size).T  # columns one by one
        full = jacobian(f)(at)
        n = len(hand.measured)
        if kind == "complicated":  # each point's own coordinates share their two columns
            own = np.zeros((3 * n, 2 * n))
            for i in range(n):
                own[3 * i : 3 * i + 3, 2 * i : 2 * i + 2] = theirs[3 * i : 3 * i + 3, :2]
            theirs = np.hstack([own, theirs[:, 2:]])
        digits = np.max(np.abs(full - theirs)) / np.spacing(np.max(np.abs(theirs)))
        reports = {
            "ours": gradcheck(f, at, raise_exception=False),
            "ADBench's": gradcheck(
                f, at, vjp=lambda v, _, theirs=theirs: (v @ theirs,), raise_exception=False
            ),
        }
        failed |= not all(report.ok for report in reports.values())
        verdicts = ", ".join(f"{who} {report.verdict}" for who, report in reports.items())
        print(f"{kind}, {full.shape}: {verdicts}; apart by {digits:.1f} units of the largest")  # noqa: T201  # its purpose
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
