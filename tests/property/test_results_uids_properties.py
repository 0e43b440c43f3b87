"""Result keys and UIDs: equal for the same input in any order, different as soon as any part differs."""

import re
import string

from hypothesis import given
from hypothesis import strategies as st

from dicom_node.results.uids import control_id, result_key, tracking_uid, uid

TEXT = st.text(max_size=20)
UIDS = st.text(alphabet="0123456789.", min_size=1, max_size=20)
INSTANCES = st.lists(st.tuples(UIDS, st.text(alphabet=string.hexdigits, max_size=8)), max_size=6)
PARTS = st.fixed_dictionaries(
    {
        "kind": TEXT,
        "study_instance_uid": UIDS,
        "instances": INSTANCES,
        "weights": st.lists(TEXT, max_size=4),
        "settings_digest": TEXT,
        "software_version": TEXT,
        "identity": TEXT,
        "status": TEXT,
        "reason_code": TEXT,
        "previous_key": TEXT,
    }
)


@given(PARTS, st.randoms())
def test_the_key_does_not_depend_on_the_order_of_instances_or_weights(parts, random):
    shuffled = dict(
        parts,
        instances=random.sample(parts["instances"], len(parts["instances"])),
        weights=random.sample(parts["weights"], len(parts["weights"])),
    )
    assert result_key(**shuffled) == result_key(**parts)


@given(
    PARTS,
    PARTS,
    st.sampled_from(
        sorted(
            [
                "kind",
                "study_instance_uid",
                "instances",
                "weights",
                "settings_digest",
                "software_version",
                "identity",
                "status",
                "reason_code",
                "previous_key",
            ]
        )
    ),
)
def test_every_part_matters(parts, others, name):
    changed = dict(parts, **{name: others[name]})
    ordered = sorted if isinstance(parts[name], list) else lambda value: value
    assert (result_key(**changed) == result_key(**parts)) == (ordered(parts[name]) == ordered(others[name]))


@given(PARTS, st.text(min_size=1, max_size=5))
def test_text_that_moves_from_one_part_to_the_next_makes_another_key(parts, moved):
    one = dict(parts, identity=parts["identity"] + moved)
    other = dict(parts, status=moved + parts["status"])
    assert result_key(**one) != result_key(**other)


@given(TEXT, TEXT)
def test_a_uid_is_a_valid_one_under_the_root_for_uuids(purpose, key):
    made = uid(purpose, key)
    assert re.fullmatch(r"2\.25\.(0|[1-9][0-9]{0,38})", made)
    assert int(made[5:]) < 2**128
    assert made == uid(purpose, key)


@given(TEXT, TEXT, TEXT, TEXT)
def test_another_purpose_or_key_is_another_uid(purpose, key, other_purpose, other_key):
    assert (uid(purpose, key) == uid(other_purpose, other_key)) == ((purpose, key) == (other_purpose, other_key))


@given(TEXT, TEXT, TEXT)
def test_a_control_id_has_twenty_plain_characters_and_belongs_to_its_destination(key, destination, other):
    made = control_id(key, destination)
    assert re.fullmatch(r"[0-9A-Z]{20}", made)
    assert (made == control_id(key, other)) == (destination == other)


@given(TEXT, st.sets(st.integers(1, 10_000), min_size=2, max_size=20))
def test_each_nodule_has_a_tracking_uid_of_its_own(key, numbers):
    assert len({tracking_uid(key, n) for n in numbers}) == len(numbers)
