"""Records -> inputs -> answers, and what is said of records that do not fit."""

import json
import math

import numpy as np
import pytest

from models.errors import EncodeError
from models.features import CategoryFeature, NumberFeature
from models.table import Schema, Target, softmax

SCHEMA = Schema(
    features=(
        NumberFeature("age", mean=40.0, std=10.0, minimum=18.0, maximum=90.0),
        NumberFeature("income", mean=0.0, std=2.0, minimum=-4.0, maximum=4.0, fill=1.0),
        CategoryFeature("city", ("Bern", "Oslo"), rare=("Ulm",), has_missing=True),
        CategoryFeature("member", ("false", "true")),
    ),
    target=Target("spend", mean=100.0, std=20.0),
    ignored={"id": "looks like an identifier"},
)
ROW = {"age": 50, "income": 3.0, "city": "Oslo", "member": True}


def problems_of(*rows: object) -> list[tuple]:
    with pytest.raises(EncodeError) as caught:
        SCHEMA.encode(rows)
    return [(p.row, p.feature, p.message) for p in caught.value.problems]


def test_widths_add_up() -> None:
    assert [feature.width for feature in SCHEMA.features] == [1, 2, 4, 2]
    assert SCHEMA.in_features == 9


def test_a_record_becomes_inputs() -> None:
    encoded = SCHEMA.encode([ROW])
    assert encoded.inputs.dtype == np.float32
    assert encoded.inputs.tolist() == [[1.0, 1.5, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]]
    assert encoded.flags == [[]]


def test_no_records_are_no_rows() -> None:
    encoded = SCHEMA.encode([])
    assert encoded.inputs.shape == (0, 9)
    assert encoded.flags == []


def test_an_array_in_the_schemas_order_is_the_same_record() -> None:
    values = [ROW[feature.name] for feature in SCHEMA.features]
    np.testing.assert_array_equal(SCHEMA.encode([values]).inputs, SCHEMA.encode([ROW]).inputs)


def test_missing_is_imputed_and_marked_where_training_had_it() -> None:
    for row in (ROW | {"income": None, "city": None}, {"age": 50, "member": True}):
        inputs = SCHEMA.encode([row]).inputs[0].tolist()
        assert inputs == [1.0, 0.5, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0]


def test_missing_is_refused_where_training_had_none() -> None:
    assert problems_of({"income": 1, "city": "Bern"}) == [
        (0, "age", "is missing, and training had no missing values here"),
        (0, "member", "is missing, and training had no missing values here"),
    ]


def test_a_rare_category_shares_an_input_and_an_unknown_one_is_flagged() -> None:
    rare, unknown = SCHEMA.encode([ROW | {"city": "Ulm"}, ROW | {"city": "Rome"}]).inputs
    assert rare[3:7].tolist() == [0.0, 0.0, 1.0, 0.0]
    assert unknown.tolist() == rare.tolist()
    assert SCHEMA.encode([ROW | {"city": "Ulm"}, ROW | {"city": "Rome"}]).flags == [
        [],
        ["unknown_category:city"],
    ]


def test_out_of_range_is_flagged_on_both_sides_and_not_at_the_ends() -> None:
    flags = SCHEMA.encode([ROW | {"age": age} for age in (17.9, 18, 90, 90.1)]).flags
    assert flags == [["out_of_range:age"], [], [], ["out_of_range:age"]]


def test_ignored_columns_may_come_along() -> None:
    encoded = SCHEMA.encode([ROW | {"id": "anything"}])
    np.testing.assert_array_equal(encoded.inputs, SCHEMA.encode([ROW]).inputs)


def test_booleans_may_be_spelt_in_any_case() -> None:
    schema = Schema((CategoryFeature("smokes", ("false", "true")),), Target("y"))
    given = [True, "TRUE", "True", "true", "yes"]
    encoded = schema.encode([{"smokes": value} for value in given])
    assert encoded.inputs[:, 1].tolist() == [1, 1, 1, 1, 0]
    assert encoded.flags == [[]] * 4 + [["unknown_category:smokes"]]
    three = Schema((CategoryFeature("smokes", ("False", "True", "unknown")),), Target("y"))
    encoded = three.encode([{"smokes": True}, {"smokes": "true"}])
    assert encoded.flags == [[], ["unknown_category:smokes"]]


def test_integers_and_booleans_may_stand_for_categories() -> None:
    schema = Schema((CategoryFeature("zip", ("3000", "3001")),), Target("y"))
    assert schema.encode([{"zip": 3001}]).inputs.tolist() == [[0.0, 1.0]]
    assert SCHEMA.encode([ROW | {"member": "true"}]).inputs[0, 8] == 1.0


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"age": "50"}, "a number is due, not a text"),
        ({"age": True}, "a number is due, not a boolean"),
        ({"age": [50]}, "a number is due, not an array"),
        ({"age": {}}, "a number is due, not an object"),
        ({"age": math.nan}, "a finite number is due"),
        ({"age": -math.inf}, "a finite number is due"),
        ({"age": 10**400}, "a finite number is due"),
        ({"age": 1e300}, "is too far outside the training range to compute with"),
        ({"age": -1.7e308}, "is too far outside the training range to compute with"),
        ({"city": 1.5}, "a text is due, not a number"),
        ({"city": ["Bern"]}, "a text is due, not an array"),
        ({"salary": 1}, "is not a feature of this model"),
        ({"spend": 1}, "is the target, which the model predicts"),
    ],
)
def test_a_wrong_cell_is_named(cell: dict, message: str) -> None:
    (name,) = cell
    assert problems_of(ROW, ROW | cell, ROW) == [(1, name, message)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1, 2, 3], "4 values are due, one for each feature, not 3"),
        ([], "4 values are due, one for each feature, not 0"),
        (None, "an object or an array is due, not null"),
        ("row", "an object or an array is due, not a text"),
        (1, "an object or an array is due, not a number"),
    ],
)
def test_a_row_of_the_wrong_form_is_named(row: object, message: str) -> None:
    assert problems_of(ROW, row) == [(1, None, message)]


def test_all_faults_are_listed_up_to_a_limit() -> None:
    assert len(problems_of(*[ROW | {"age": "x"}] * 3)) == 3
    assert len(problems_of(*[ROW | {"age": "x"}] * 500)) == 100


def test_the_error_as_text() -> None:
    with pytest.raises(
        EncodeError, match=r"^row 1, age: a number is due, not a text \(and 1 more\)$"
    ):
        SCHEMA.encode([ROW, ROW | {"age": "x"}, ROW | {"age": "x"}])


def test_a_schema_survives_json() -> None:
    assert Schema.from_dict(json.loads(json.dumps(SCHEMA.to_dict()))) == SCHEMA


def test_decode_gives_the_targets_unit_or_probabilities() -> None:
    np.testing.assert_allclose(SCHEMA.decode(np.array([[0.0], [1.5]])), [[100.0], [130.0]])
    classes = Schema(SCHEMA.features, Target("c", labels=("a", "b")))
    np.testing.assert_allclose(classes.decode(np.array([[0.0, np.log(3.0)]])), [[0.25, 0.75]])


def test_softmax_does_not_overflow() -> None:
    np.testing.assert_allclose(softmax(np.array([[1e4, 0.0], [-1e4, 0.0]])), [[1, 0], [0, 1]])


def test_a_row_is_encoded_alike_whatever_stands_beside_it() -> None:
    """Numbers that are all there are encoded at once, others column by column."""
    rng = np.random.default_rng(0)
    rows = [
        {"age": float(age), "income": float(income), "city": "Bern", "member": False}
        for age, income in zip(rng.normal(50, 30, 200), rng.normal(0, 3, 200), strict=True)
    ]
    plain = SCHEMA.encode(rows)
    beside_a_gap = SCHEMA.encode([*rows, ROW | {"income": None}])
    assert any(plain.flags)
    np.testing.assert_array_equal(beside_a_gap.inputs[:-1], plain.inputs)
    assert beside_a_gap.flags[:-1] == plain.flags
    columns = [np.array([row[name] for row in rows]) for name in ("age", "income")]
    others = [["Bern"] * 200, [False] * 200]
    from_arrays = SCHEMA.encode_columns([*columns, *others])
    np.testing.assert_array_equal(from_arrays.inputs, plain.inputs)
    assert from_arrays.flags == plain.flags


@pytest.mark.parametrize("age", [10**400, 1e200, math.nan, True, "50", np.float64(50)])
def test_a_number_that_is_none_is_found_among_plain_ones(age: object) -> None:
    assert problems_of(ROW, ROW | {"age": age})[0][:2] == (1, "age")
