"""Pytrees: taken apart and put together again, whatever they are made of."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffverify.reference import flatten, tree_map, unflatten
from ffverify.reference.engine.tree import flatten_like


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclass(frozen=True)
class Record:
    x: Any
    y: Any


leaves = st.integers() | st.floats(allow_nan=False) | st.text(max_size=2)
trees = st.recursive(
    leaves | st.none(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=2), inner, max_size=3),
        st.builds(Pair, inner, inner),
        st.builds(Record, inner, inner),
        st.dictionaries(st.integers(), inner, max_size=2).map(OrderedDict),
    ),
    max_leaves=12,
)


@settings(derandomize=True, deadline=None)
@given(trees)
def test_round_trip(tree):
    found, structure = flatten(tree)
    again = unflatten(structure, found)
    assert again == tree
    assert type(again) is type(tree)
    assert hash(structure) == hash(flatten(again)[1])
    assert flatten_like(structure, tree, "tree") == found
    assert tree_map(lambda x: x, tree) == tree


def test_dicts_match_by_key_and_none_is_empty():
    tree = {"a": 1, "b": [2, None]}
    assert flatten(tree)[0] == [1, 2]
    assert tree_map(lambda x, y: x - y, tree, {"b": [5, None], "a": 7}) == {
        "a": -6,
        "b": [-3, None],
    }


@pytest.mark.parametrize(
    ("other", "match"),
    [
        ({"a": 1}, "keys"),
        ({"a": 1, "b": [2]}, "length 2"),
        ({"a": 1, "b": (2, None)}, "list"),
        ({"a": [1], "b": [2, None]}, "list where an array"),
        ({"a": 1, "b": [2, 3]}, "None"),
        ([1], "dict"),
    ],
)
def test_trees_of_another_structure_are_refused(other, match):
    with pytest.raises(ValueError, match=match):
        tree_map(lambda x, y: x, {"a": 1, "b": [2, None]}, other)


def test_the_number_of_leaves_must_match():
    _, structure = flatten([1, 2])
    with pytest.raises(ValueError, match="more leaves"):
        unflatten(structure, [1, 2, 3])
    assert unflatten(structure, [np.ones(2), 0])[1] == 0
