"""Registry requests and image references as values.

No other module parses registry URLs or image references: they get a `Manifest`, a `Blob` or an `Image`. Nothing here
does I/O or guesses. A target that does not fit the grammar is `Other`, which the backend answers, or None.

Grammar: distribution-spec `spec.md` (name, tag), image-spec `descriptor.md` (digest).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}")
_MANIFEST = re.compile(r"/v2/(.+)/manifests/([^/]+)")
_UPLOAD = re.compile(r"/v2/(.+)/blobs/uploads/.*")
_BLOB = re.compile(r"/v2/(.+)/blobs/([^/]+)")

# Clients refuse longer names, host and slash included (distribution-spec spec.md, "Pulling manifests").
MAX_NAME = 255

MANIFEST_TYPES = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)
"""The media types of manifests. registry:2 answers a type that Accept lacks with 404, or converts it."""


@dataclass(frozen=True, slots=True)
class Digest:
    """Content named by its hash: it never changes."""

    value: str

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, order=True)
class Image:
    """A tag in a repository of this registry. It prints as users write it, `shop/api:dev`."""

    repository: str
    tag: str

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A request for, or an upload of, `/v2/<repository>/manifests/<reference>`."""

    repository: str
    reference: str | Digest
    namespace: str | None = None
    """containerd's `?ns=`: the registry in the image's name, if it is not the host of the request."""

    def __str__(self) -> str:
        mark = "@" if isinstance(self.reference, Digest) else ":"
        return f"{self.repository}{mark}{self.reference}"


@dataclass(frozen=True, slots=True)
class Blob:
    """A request for `/v2/<repository>/blobs/<digest>`."""

    repository: str
    digest: Digest
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """A step of the upload of a blob, `/v2/<repository>/blobs/uploads/...`."""

    repository: str
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class Other:
    """Any other registry request: tag lists, the catalogue, targets that fit no grammar."""

    namespace: str | None = None


Target = Manifest | Blob | Upload | Other


def parse_target(target: str) -> Target | None:
    """Parse a raw request target. Return None if it is not a registry request at all."""
    raw_path, _, query = target.partition("?")
    # Decoded, because distribution matches the decoded path: `a%2Fb` is `a/b` there too.
    path = unquote(raw_path, errors="replace")
    if path != "/v2" and not path.startswith("/v2/"):
        return None
    namespace = _namespace(query)
    if (match := _MANIFEST.fullmatch(path)) and is_name(match[1]):
        if _DIGEST.fullmatch(match[2]):
            return Manifest(match[1], Digest(match[2]), namespace)
        if _TAG.fullmatch(match[2]):
            return Manifest(match[1], match[2], namespace)
    if (match := _BLOB.fullmatch(path)) and is_name(match[1]) and _DIGEST.fullmatch(match[2]):
        return Blob(match[1], Digest(match[2]), namespace)
    if (match := _UPLOAD.fullmatch(path)) and is_name(match[1]):
        return Upload(match[1], namespace)
    return Other(namespace)


def _namespace(query: str) -> str | None:
    """Return all values of `ns`, joined. Several values, or a query that is too long, match no name of ours."""
    if "=" not in query:
        return None
    try:
        values = parse_qs(query, max_num_fields=100).get("ns")
    except ValueError:
        return query[:100]
    return ",".join(values) if values else None


def is_name(text: str) -> bool:
    """Return True for a valid repository name."""
    return len(text) <= MAX_NAME and _NAME.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class RegistryNames:
    """The names of one registry, in image references and in `?ns=`."""

    primary: str
    """The name that images are tagged with, `localhost:5000`."""
    aliases: tuple[str, ...] = ()
    """Other names of the same registry, `127.0.0.1:5000`. The primary name takes precedence."""

    @classmethod
    def local(cls, port: int) -> RegistryNames:
        """Return the two names of a registry that is published on this port of the loopback interface."""
        return cls(f"localhost:{port}", (f"127.0.0.1:{port}",))

    @property
    def port(self) -> int:
        """The port in the primary name."""
        return int(self.primary.rpartition(":")[2])

    @property
    def all(self) -> tuple[str, ...]:
        return (self.primary, *self.aliases)

    def serves_namespace(self, namespace: str | None) -> bool:
        """Return True if a request with this `?ns=`, or with none, is for this registry."""
        return namespace is None or namespace in self.all

    def docker_references(self, image: Image) -> tuple[str, ...]:
        """Return the references that this image may have in Docker, the primary name first."""
        return tuple(f"{name}/{image}" for name in self.all)

    def parse(self, reference: str) -> Image | None:
        """Return the image of Docker's reference `localhost:5000/shop/api:dev`; None if it is another registry's."""
        for name in self.all:
            if reference.startswith(f"{name}/"):
                return parse_image(reference.removeprefix(f"{name}/"))
        return None

    def parse_user_input(self, text: str) -> Image | None:
        """Parse an image as users type it: the registry's name is optional, and a digest, as in a pod, is ignored.

        Return None for another registry's image: text before the first slash that looks like a host is one
        (distribution/reference, `splitDockerDomain`).
        """
        name = text.partition("@")[0]
        tagged = name if ":" in name.rpartition("/")[2] else text
        host, slash, _ = tagged.partition("/")
        is_elsewhere = bool(slash) and ("." in host or ":" in host or host == "localhost")
        return self.parse(tagged) or (None if is_elsewhere else parse_image(tagged))


def parse_image(text: str) -> Image | None:
    """Parse `shop/api:dev`; the default tag is `latest`. Return None for an invalid name or one with a digest."""
    repository, colon, tag = text.partition(":")
    if not colon:
        tag = "latest"
    return Image(repository, tag) if is_name(repository) and _TAG.fullmatch(tag) else None
