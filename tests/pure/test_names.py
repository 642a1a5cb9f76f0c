"""Parsing of request targets and image references."""

from __future__ import annotations

import pytest

from autoregistry.names import (
    Blob,
    Digest,
    Image,
    Manifest,
    Other,
    RegistryNames,
    Upload,
    parse_image,
    parse_target,
)

SHA = "sha256:" + "0" * 64
NAMES = RegistryNames("localhost:5000", ("127.0.0.1:5000",))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param("/v2/", Other(), id="the ping"),
        pytest.param("/v2", Other(), id="the ping without its slash"),
        pytest.param("/v2/_catalog?n=5", Other(), id="the catalogue"),
        pytest.param("/v2/a/manifests/dev", Manifest("a", "dev"), id="a tag"),
        pytest.param("/v2/shop/api/manifests/dev", Manifest("shop/api", "dev"), id="two components"),
        pytest.param(f"/v2/a/manifests/{SHA}", Manifest("a", Digest(SHA)), id="a digest"),
        pytest.param(
            f"/v2/a/manifests/{SHA.replace(':', '%3A')}",
            Manifest("a", Digest(SHA)),
            id="a digest, its colon encoded",
        ),
        pytest.param(
            "/v2/a/manifests/dev?ns=localhost%3A5000",
            Manifest("a", "dev", "localhost:5000"),
            id="containerd's namespace",
        ),
        pytest.param("/v2/a%2Fb/manifests/dev", Manifest("a/b", "dev"), id="an encoded slash"),
        pytest.param(
            "/v2/x/manifests/manifests/dev",
            Manifest("x/manifests", "dev"),
            id="a component called manifests",
        ),
        pytest.param("/v2/x/manifests/tags/list", Other(), id="tags of a component called manifests"),
        pytest.param(f"/v2/a/blobs/{SHA}", Blob("a", Digest(SHA)), id="a blob"),
        pytest.param("/v2/a/blobs/uploads/", Upload("a"), id="an upload begins"),
        pytest.param("/v2/a/b/blobs/uploads/1?_state=x", Upload("a/b"), id="an upload goes on"),
        pytest.param("/v2/A/manifests/dev", Other(), id="capitals in a name"),
        pytest.param("/v2/a/manifests/-dev", Other(), id="a tag with a leading dash"),
        pytest.param("/v2/../manifests/dev", Other(), id="dots for a name"),
        pytest.param(f"/v2/{'a' * 256}/manifests/dev", Other(), id="a name too long"),
        pytest.param("/v2/a/manifests/" + "t" * 129, Other(), id="a tag too long"),
        pytest.param("/v2/a/manifests/%ff", Other(), id="bytes that are not UTF-8"),
        pytest.param("/v2/a/manifests/dev%00", Other(), id="a NUL"),
        pytest.param("/v2/a/manifests/dev?" + "&".join("a=b" for _ in range(200)) + "&ns=x",
                     Manifest("a", "dev", "&".join("a=b" for _ in range(200))[:100]), id="a query too long to read"),
        pytest.param("/v2/a/manifests/dev?n%73=docker.io", Manifest("a", "dev", "docker.io"), id="an encoded ns"),
        pytest.param("/v2/a/manifests/dev?ns=localhost:5000&ns=docker.io",
                     Manifest("a", "dev", "localhost:5000,docker.io"), id="two namespaces"),
        pytest.param("/", None, id="the root"),
        pytest.param("/v2x/a", None, id="another prefix"),
        pytest.param("http://x/v2/", None, id="an absolute target"),
        pytest.param("*", None, id="a star"),
    ],
)  # fmt: skip
def test_target_is_parsed(target: str, expected: object) -> None:
    assert expected == parse_target(target)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("localhost:5000/shop/api:dev", Image("shop/api", "dev")),
        ("127.0.0.1:5000/api:dev", Image("api", "dev")),
        ("localhost:5000/api", Image("api", "latest")),
        ("localhost:5001/api:dev", None),
        ("shop/api:dev", None),
        (f"localhost:5000/api@{SHA}", None),
    ],
)
def test_image_is_ours_by_its_name(reference: str, expected: Image | None) -> None:
    assert expected == NAMES.parse(reference)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("shop/api:dev", Image("shop/api", "dev")),
        ("api", Image("api", "latest")),
        ("localhost:5000/my.shop/api:dev", Image("my.shop/api", "dev")),
        (f"localhost:5000/api:dev@{SHA}", Image("api", "dev")),
        (f"api:dev@{SHA}", Image("api", "dev")),
        (f"localhost:5000/api@{SHA}", None),
        ("docker.io/library/nginx:1.27", None),
        ("localhost/api:dev", None),
        ("localhost:5001/api:dev", None),
    ],
)
def test_users_may_omit_the_registrys_name(typed: str, expected: Image | None) -> None:
    assert expected == NAMES.parse_user_input(typed)


def test_invalid_names_are_refused() -> None:
    assert [parse_image(t) for t in ("Shop:dev", "shop:", "a b")] == [None, None, None]


def test_primary_name_comes_first_in_docker() -> None:
    references = NAMES.docker_references(Image("api", "dev"))

    assert references == ("localhost:5000/api:dev", "127.0.0.1:5000/api:dev")


@pytest.mark.parametrize(
    ("namespace", "expected"),
    [(None, True), ("localhost:5000", True), ("127.0.0.1:5000", True), ("docker.io", False)],
)
def test_only_our_own_names_are_served(namespace: str | None, expected: bool) -> None:
    assert expected is NAMES.serves_namespace(namespace)


def test_values_print_as_users_write_them() -> None:
    printed = [str(v) for v in (Manifest("a", "dev"), Manifest("a", Digest(SHA)), Image("a", "x"))]

    assert ["a:dev", f"a@{SHA}", "a:x"] == printed
