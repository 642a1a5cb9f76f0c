"""The model that checks the tests of faults: it must allow nothing that the rules exclude."""

from __future__ import annotations

from tests.integration.helpers.tag_model import DOCKER, TagModel


def _model() -> TagModel:
    model = TagModel()
    model.built("v1")
    return model


def test_side_that_changed_last_wins() -> None:
    model = _model()
    assert (model.allowed("v1"), model.expected()) == ({"v1"}, "v1")

    model.pushed_manually("other", has_succeeded=True)
    assert (model.allowed("v1"), model.expected()) == ({"other"}, "other")

    model.pushed_manually(DOCKER, has_succeeded=True)
    assert model.allowed("v1") == {"v1"}

    model.pushed_manually("other", has_succeeded=True)
    model.built("v2")
    assert (model.allowed("v2"), model.expected()) == ({"v2"}, "v2")


def test_manual_push_that_failed_may_have_set_the_tag() -> None:
    model = _model()
    model.pushed_manually("other", has_succeeded=False)

    assert (model.allowed("v1"), model.expected()) == ({"v1", "other"}, "")

    model.settle("v1", "other")
    assert model.allowed("v1") == {"other"}


def test_build_that_failed_counts_if_docker_has_another_image() -> None:
    model = _model()
    model.pushed_manually("other", has_succeeded=True)
    model.build_failed()

    assert model.expected() == ""
    assert model.allowed("v1") == {"other"}
    assert model.allowed("v2") == {"v2"}


def test_manual_push_after_a_build_that_failed_stays() -> None:
    model = _model()
    model.build_failed()
    model.pushed_manually("other", has_succeeded=True)

    assert model.allowed("v1") == {"other"}
    assert model.allowed("v2") == {"other"}


def test_build_that_ends_after_a_check_counts_before_all_later_changes() -> None:
    model = _model()
    model.settle("v1", "other")

    assert model.allowed("v2") == {"v2"}

    model.pushed_manually("another", has_succeeded=True)
    assert model.allowed("v2") == {"another"}


def test_two_builds_that_failed_may_have_changed_docker_before_or_after_a_manual_push() -> None:
    model = _model()
    model.build_failed()
    model.pushed_manually("other", has_succeeded=True)
    model.build_failed()

    assert model.allowed("v2") == {"v2", "other"}
