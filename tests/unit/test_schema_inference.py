"""Columns -> profiles -> schema -> tensors."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from models.errors import DataError
from models.features import CategoryFeature, NumberFeature
from models.schema_inference import (
    encode_features,
    encode_target,
    infer_schema,
    infer_task,
    labelled_rows,
    records,
)
from models.tally import profile


def table_of_all_kinds(n: int = 60) -> pa.Table:
    return pa.table(
        {
            "row_id": list(range(n)),
            "serial": [1000 + 7 * i * i for i in range(n)],
            "uuid": [f"u{i:04}" for i in range(n)],
            "constant": ["same"] * n,
            "empty": pa.nulls(n),
            "day": pa.array(list(range(n)), pa.date32()),
            "nested": [[i] for i in range(n)],
            "number": [float(i % 7) for i in range(n)],
            "holes": [None if i % 5 == 0 else i % 3 for i in range(n)],
            "city": [("Bern", "Oslo", None)[i % 3] for i in range(n)],
            "flag": [i % 2 == 0 for i in range(n)],
            "words": [("True", "False")[i % 2] for i in range(n)],
            "y": [i * 0.5 for i in range(n)],
        }
    )


def test_identifiers_constants_and_unusable_columns_are_noticed() -> None:
    schema = infer_schema(table_of_all_kinds(), "y", "regression", np.arange(40))
    assert {name: reason.split(":")[0] for name, reason in schema.ignored.items()} == {
        "row_id": "looks like an identifier",
        "uuid": "looks like an identifier or free text",
        "constant": "is constant",
        "empty": "all values are missing",
        "day": "dates and times are not used",
        "nested": "holds nested or unknown values (list<item",
    }
    assert [f.name for f in schema.features] == [
        "serial", "number", "holes", "city", "flag", "words",
    ]  # fmt: skip


def test_columns_become_features_of_their_kind() -> None:
    schema = infer_schema(table_of_all_kinds(), "y", "regression", np.arange(40))
    features = {feature.name: feature for feature in schema.features}
    assert features["holes"] == NumberFeature(
        "holes",
        mean=pytest.approx(31 / 32),
        std=pytest.approx(np.std([i % 3 for i in range(40) if i % 5])),
        minimum=0.0,
        maximum=2.0,
        fill=1.0,
    )
    assert features["city"] == CategoryFeature("city", ("Bern", "Oslo"), has_missing=True)
    assert features["flag"].categories == ("false", "true")
    assert features["words"].categories == ("false", "true")


def test_statistics_come_from_training_rows_but_values_from_all() -> None:
    table = pa.table(
        {
            "n": [1.0, 2.0, 3.0, 100.0, None],
            "c": ["a", "a", "a", "b", "c"],
            "y": [1.0, 2.0, 3.0, 4.0, 5.0],
        }
    )
    schema = infer_schema(table, "y", "regression", np.array([0, 1, 2]))
    n, c = schema.features
    assert (n.mean, n.minimum, n.maximum, n.fill) == (2.0, 1.0, 3.0, 2.0)
    assert c == CategoryFeature("c", ("a",), rare=("b", "c"))
    assert (schema.target.mean, schema.target.std) == (2.0, pytest.approx((2 / 3) ** 0.5))


def test_numbers_with_an_odd_word_say_which_row() -> None:
    values = [str(i / 7) for i in range(60)]
    values[17] = "about 3"
    table = pa.table({"x": values, "k": [i % 4 * 1.0 for i in range(60)], "y": range(60)})
    schema = infer_schema(table, "y", "regression", np.arange(60))
    assert schema.ignored == {"x": "would be numbers, but row 18 holds 'about 3'"}


@pytest.mark.parametrize(
    ("values", "task"),
    [
        ([1.0, 2.5, 3.0], "regression"),
        ([3, 4, 5], "regression"),
        ([0, 1, 0], "classification"),
        (["a", "b", "a"], "classification"),
        ([True, False, True], "classification"),
    ],
)
def test_the_task_is_found_from_the_target(values: list, task: str) -> None:
    assert infer_task(pa.table({"y": values}), "y") == task


def test_labels_keep_their_natural_order() -> None:
    table = pa.table({"x": [1.0, 2.0, 4.0], "y": [10, 9, 100]})
    schema = infer_schema(table, "y", "classification", np.arange(3))
    assert schema.target.labels == ("9", "10", "100")
    assert encode_target(table, schema).tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("column", "task", "code"),
    [
        (["a", "b", "c"], "regression", "target_not_numeric"),
        ([1.0, 1.0, 1.0], "regression", "constant_target"),
        ([1.0, float("inf"), 2.0], "regression", "infinite_value"),
        (["a", "a", "a"], "classification", "one_class"),
        ([[1], [2], [3]], "classification", "target_unusable"),
    ],
)
def test_an_unusable_target_is_refused(column: list, task: str, code: str) -> None:
    table = pa.table({"x": [1.0, 2.0, 4.0], "y": column})
    with pytest.raises(DataError) as caught:
        infer_schema(table, "y", task, np.arange(3))
    assert (caught.value.code, caught.value.param) in {(code, "target"), (code, "y")}


def test_too_many_classes() -> None:
    table = pa.table({"x": [float(i % 9) for i in range(300)], "y": [f"c{i}" for i in range(300)]})
    with pytest.raises(DataError, match="300 classes, the most is 200"):
        infer_schema(table, "y", "classification", np.arange(300))


def test_a_missing_target_column_names_its_neighbours() -> None:
    table = pa.table({"species": ["a"], "island": ["b"]})
    with pytest.raises(DataError, match=r"no column 'spezies'; near it: species"):
        infer_task(table, "spezies")


def test_rows_without_a_target_are_left_out() -> None:
    table = pa.table({"x": [1, 2, 3], "y": [1.0, None, float("nan")]})
    assert labelled_rows(table, "y").to_pydict()["x"] == [1]
    with pytest.raises(DataError, match="every value of 'y' is missing"):
        labelled_rows(pa.table({"y": pa.nulls(3)}), "y")


def test_what_a_text_column_is_does_not_hang_on_a_part_of_it() -> None:
    """True and False with another word far from the beginning, read back in small parts."""
    words = ["True", "False"] * 1500
    words[2500:2510] = ["unknown"] * 10
    table = pa.table({"answer": words, "y": words})
    rows = np.arange(3000)
    schema = infer_schema(table, "y", "classification", rows)
    assert schema.features[0].categories == ("False", "True", "unknown")
    assert schema.target.labels == ("False", "True", "unknown")
    inputs = encode_features(table, schema, batch_cells=100)
    assert (inputs.sum(axis=1) == 1).all()
    part = table.slice(0, 50)
    assert encode_target(part, schema).tolist() == [1, 0] * 25
    assert schema.encode(records(part, schema)).flags == [[]] * 50


def test_a_file_whose_categories_look_like_numbers_is_read_as_categories() -> None:
    table = pa.table({"floor": ["1", "2", "roof"] * 10, "y": [1.0, 2.0, 4.0] * 10})
    schema = infer_schema(table, "y", "regression", np.arange(30))
    rows = records(pa.table({"floor": [2, 1]}), schema)
    assert rows == [{"floor": "2"}, {"floor": "1"}]
    with pytest.raises(DataError, match="column 'floor' holds nested or unknown values"):
        records(pa.table({"floor": [[1], [2]]}), schema)


def test_a_column_that_is_constant_but_for_one_row_outside_training() -> None:
    """The standard deviation of many 0.1s is not 0 but 3e-17."""
    table = pa.table({"x": [0.1] * 150 + [0.2], "z": range(151), "y": np.arange(151.0) % 7})
    schema = infer_schema(table, "y", "regression", np.arange(150))
    assert np.abs(encode_features(table, schema)).max() < 100
    constant = pa.table({"x": np.arange(50.0) ** 2, "y": [0.1] * 50})
    with pytest.raises(DataError, match="'y' is the same in every row"):
        infer_schema(constant, "y", "regression", np.arange(50))


@pytest.mark.parametrize("value", [1e101, -1e308])
def test_numbers_whose_squares_overflow_are_named_by_row(value: float) -> None:
    numbers = np.arange(30.0) ** 2
    numbers[7] = value
    for names in (("x", "y"), ("y", "x")):
        table = pa.table({names[0]: numbers, names[1]: np.arange(30.0) ** 3})
        with pytest.raises(DataError, match=r"is -?1e\+\d+, beyond ±1e\+100, in row 8"):
            infer_schema(table, "y", "regression", np.arange(30))


def test_rows_outside_training_that_nothing_can_compute_with_are_named() -> None:
    x, y = np.arange(40.0) % 7, np.arange(40.0) % 5
    x[35], y[36] = 1e30, 1e30
    table = pa.table({"x": x, "y": y})
    schema = infer_schema(table, "y", "regression", np.arange(30))
    with pytest.raises(DataError, match="column 'x', row 36: is too far outside"):
        encode_features(table, schema, batch_cells=10)
    with pytest.raises(DataError, match=r"'y': 1e\+30 in row 37 is too far from the others"):
        encode_target(table, schema)
    tiny = pa.table({"x": x[:30] * 1e-200, "y": y[:30]})
    assert (
        np.abs(encode_features(tiny, infer_schema(tiny, "y", "regression", np.arange(30)))).max()
        < 1
    )


def test_one_word_among_thousands_of_numbers_is_named() -> None:
    texts = [f"{i}" for i in range(3000)]
    texts[2500] = "unknown"
    noted = profile(pa.table({"x": texts, "quoted": [f"{i}" for i in range(3000)]}))
    assert noted[0].note == "would be numbers, but row 2501 holds 'unknown'"
    assert noted[1].note == "holds numbers as texts: write them without quotes"


def test_numbers_with_decimal_commas_say_so() -> None:
    table = pa.table({"x": [f"{i},5" for i in range(50)], "y": range(50)})
    assert "write 1.5, not 1,5" in (profile(table)[0].note or "")


def test_infinity_in_a_feature_is_named_by_row() -> None:
    table = pa.table({"x": [1.0, float("-inf"), 2.0], "y": [1.0, 2.0, 3.0]})
    with pytest.raises(DataError, match="column 'x' is infinite in row 2"):
        infer_schema(table, "y", "regression", np.arange(3))


def test_no_usable_feature() -> None:
    with pytest.raises(DataError, match="no column can serve as a feature: x is constant"):
        infer_schema(pa.table({"x": [1, 1], "y": [1.0, 2.0]}), "y", "regression", np.arange(2))


def test_columns_encode_as_records_do() -> None:
    table = table_of_all_kinds()
    schema = infer_schema(table, "y", "regression", np.arange(40))
    rows = records(table, schema)
    np.testing.assert_array_equal(encode_features(table, schema), schema.encode(rows).inputs)
    np.testing.assert_array_equal(
        encode_features(table, schema, batch_cells=45), encode_features(table, schema)
    )


def test_profiles_say_what_columns_hold() -> None:
    profiles = {column.name: column for column in profile(table_of_all_kinds())}
    assert profiles["holes"].type == "number"
    assert (profiles["holes"].missing, profiles["holes"].distinct) == (12, 3)
    assert (profiles["holes"].minimum, profiles["holes"].maximum) == (0.0, 2.0)
    assert profiles["city"].examples == ("Bern", "Oslo")
    assert profiles["flag"].type == "boolean"
    assert profiles["day"].type == "unusable"
    assert (
        profiles["uuid"].note
        == "looks like an identifier or free text: most values stand only once"
    )
    assert profiles["number"].note is None
