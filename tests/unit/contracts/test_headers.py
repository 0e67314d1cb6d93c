"""Headers by name."""

from headrace.contracts import headers as h


def test_of_a_repeated_name_the_last_counts_and_null_is_absent() -> None:
    assert h.as_dict([("a", b"1"), ("a", b"2"), ("b", None), ("c", b"")]) == {"a": b"2", "c": b""}


def test_the_first_that_is_there_and_not_empty() -> None:
    assert h.first({"b": b"2", "a": b""}, ("a", "b")) == b"2"
    assert h.first({}, ("a",)) is None


def test_our_extension_names_are_what_cloudevents_allows() -> None:
    names = [value for value in vars(h).values() if isinstance(value, str) and value.startswith("ce_")]
    for name in names:
        extension = name.removeprefix("ce_")
        assert extension.isascii()
        assert extension.isalnum()
        assert extension == extension.lower()
        assert len(extension) <= 20
