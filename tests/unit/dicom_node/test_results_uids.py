"""Result keys stay what they are from version to version: a changed recipe would send every result a second time."""

from dicom_node.results.uids import control_id, result_key, uid

KNOWN_KEY = "3f042960bd64261b4859edc87aa6177f5ca0979efb176f36989e3e11da8e26a3"
KNOWN_SR = "2.25.13114797555301082396843124287503338002"
KNOWN_CONTROL_ID = "TIKH0U90H0JFZDCXWU6O"


def test_keys_and_uids_of_a_known_result_are_those_of_the_first_version():
    key = result_key(
        kind="result",
        study_instance_uid="1.2.3",
        instances=[("1.2.3.1", "aa"), ("1.2.3.2", "bb")],
        weights=["w1"],
        settings_digest="s",
        software_version="0.1.0",
        identity="HOSP/P-1",
        status="completed",
    )
    assert key == KNOWN_KEY
    assert uid("sr", key) == KNOWN_SR
    assert control_id(key, "his-main") == KNOWN_CONTROL_ID
