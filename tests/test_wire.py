"""Values on their way between a program and the one who asks: what comes back is what was sent, or equals nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azr.executor.wire import Opaque, digest, pack, unpack

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.integers() | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=20,
)


@given(values)
def test_values_come_back_as_they_were(value: object) -> None:
    back = unpack(json.loads(json.dumps(pack(value))))
    assert back == value
    assert repr(back) == repr(value)


def test_what_is_no_data_equals_nothing() -> None:
    opaque = unpack(pack(lambda: 0))
    assert isinstance(opaque, Opaque)
    assert opaque != opaque and opaque is not None
    with pytest.raises(ValueError):
        unpack({"no such tag": 1})


def test_digests_are_equal_where_python_says_equal() -> None:
    assert digest(pack([1, True, {2, 1.0}])) == digest(pack([1.0, 1, {1, 2}]))
    assert digest(pack({"a": 1, "b": 2})) == digest(pack({"b": 2, "a": 1}))
    assert digest(pack([1, 2])) != digest(pack((1, 2)))
    assert digest(pack([-1])) != digest(pack([-2]))
    assert digest(pack(["1"])) != digest(pack([1]))
