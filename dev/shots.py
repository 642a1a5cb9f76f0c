"""`make shots`: the picture of the README, a screenshot of the page in a real run, in docs/images/page.png.

The run has a stack, a k3d cluster of two nodes, and images in different states: up to date, pushed manually, present in
Docker only, and one that Docker is pushing when the picture is taken.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from dev import lab, node
from dev.browser import install_browser, open_browser
from dev.lab import LabError
from dev.lab.cache import RUN, locked
from dev.shell import Shell

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "page.png"
ADDRESS = "http://127.0.0.1:5000/_autoregistry/"
NAME = "localhost:5000"
CLUSTER = "dev"
NODES = (f"k3d-{CLUSTER}-server-0", f"k3d-{CLUSTER}-agent-0")
IMAGES = 6
WIDTH, HEIGHT = 1280, 880
MEGABYTE = 1 << 20
MAX_BYTES = 200_000
# The size of the image that is being pushed: large enough that the push lasts some seconds.
LARGE_MEGABYTES = 600
# True while the bar of a push is between this and 0.8.
BAR = """Array.from(document.querySelectorAll("#running progress")).some(
  bar => bar.value > {} && bar.value < 0.8)"""
# The page reads the state when it becomes visible, otherwise after the push.
READ_STATE = "document.dispatchEvent(new Event('visibilitychange'))"
NEXT_FRAME = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


class Scene:
    """The images of the picture, in a stack and a cluster of their own."""

    def __init__(self, shell: Shell, folder: Path) -> None:
        self.shell = shell
        self.folder = folder

    def build(self, image: str, *, megabytes: int = 1) -> None:
        (self.folder / "content").write_bytes(os.urandom(megabytes * MEGABYTE))
        (self.folder / "Dockerfile").write_text("FROM scratch\nCOPY content /\nCMD x\n")
        tag = f"{NAME}/{image}"
        self.shell.run(
            "docker", "build", "--quiet", "--tag", tag, self.folder, show=f"docker build -t {tag} ."
        )

    def pull(self, image: str, *nodes: str) -> None:
        """Pull an image on nodes, as their kubelet does."""
        for name in nodes:
            self.shell.output("docker", "exec", name, "crictl", "pull", f"{NAME}/{image}")

    def push_manually(self, image: str) -> None:
        """Push other content than Docker's under a tag, as CI would."""
        layer = self.folder / "layer.tar"
        subprocess.run(["tar", "-C", self.folder, "-cf", layer, "Dockerfile"], check=True)
        self.shell.output(
            *(str(lab.tool("crane")), "append", "--new_layer", str(layer)),
            *("--new_tag", f"{NAME}/{image}"),
        )
        layer.unlink()


def main() -> None:
    """Take the picture; everything else that it creates is removed."""
    install_browser()
    docker = lab.docker("containerd")
    if not docker.owned:
        raise LabError(f"{docker.host} is your own Docker: the picture would show your images")
    for reference in ("registry:2", "python:3.13-slim"):
        lab.image(docker, reference)
    shell = Shell(docker)
    flags = node.create_arguments(docker)
    with locked(f"stack-{docker.store}", directory=RUN), tempfile.TemporaryDirectory() as folder:
        _clean_up(shell)
        try:
            picture = asyncio.run(_take(Scene(shell, Path(folder)), flags))
        finally:
            _clean_up(shell)
    if len(picture) > MAX_BYTES:
        raise LabError(f"the picture has {len(picture):,} bytes, more than {MAX_BYTES:,}")
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_bytes(picture)
    print(f"{PICTURE}: {len(picture):,} bytes")


def _clean_up(shell: Shell) -> None:
    """Remove the cluster, the stack and all images of its name from the lab's Docker."""
    if shell.has_container(NODES[0]):
        shell.run("autoregistry", "cluster", "delete", CLUSTER)
    shell.run("autoregistry", "down", "--volumes", "--yes")
    names = shell.output("docker", "images", "--format", "{{.Repository}}:{{.Tag}}", f"{NAME}/*/*")
    names += shell.output("docker", "images", "--format", "{{.Repository}}:{{.Tag}}", f"{NAME}/*")
    for name in names.split():
        shell.output("docker", "rmi", name)


async def _take(scene: Scene, flags: list[str]) -> bytes:
    _set_up(scene, flags)
    with tempfile.TemporaryDirectory() as home:
        async with open_browser(Path(home)) as tab:
            await tab.set_window(WIDTH, HEIGHT, "light")
            await tab.send("Emulation.setScrollbarsHidden", hidden=True)
            await tab.open(ADDRESS)
            rows = "document.querySelectorAll('#images tbody tr').length"
            await tab.until(f"{rows} === {IMAGES}", f"{IMAGES} images")
            build = asyncio.to_thread(scene.build, "shop/web:dev", megabytes=LARGE_MEGABYTES)
            building = asyncio.create_task(build)
            await tab.until(BAR.format("0.1"), "the start of a push", 120)
            await tab.evaluate(READ_STATE)
            await tab.until(BAR.format("0.4"), "the bar of a push")
            await tab.evaluate(NEXT_FRAME)
            picture = await tab.screenshot()
            await building
    return picture


def _set_up(scene: Scene, flags: list[str]) -> None:
    shell = scene.shell
    for image in ("tools/lint:2.1", "tools/migrate:1.4"):
        scene.build(image)  # before `up`: such images are pushed when a client pulls them
    shell.run("autoregistry", "up")
    create = ("autoregistry", "cluster", "create", CLUSTER)
    shell.run(*create, "--", *flags, "--agents", "1", show=" ".join(create))
    for image in ("shop/api:dev", "shop/cart:dev", "shop/mail:dev", "shop/web:dev"):
        scene.build(image)
        shell.run("autoregistry", "push", image)
    scene.push_manually("shop/mail:dev")
    for image, nodes in (
        ("shop/web:dev", NODES),
        ("shop/api:dev", NODES),
        ("shop/cart:dev", NODES[:1]),
        ("shop/mail:dev", NODES[1:]),
    ):
        scene.pull(image, *nodes)
    shell.output(str(lab.tool("crane")), "digest", f"{NAME}/shop/mail:dev")
    scene.pull("tools/migrate:1.4", NODES[0])


if __name__ == "__main__":
    try:
        main()
    except (LabError, AssertionError) as exc:
        sys.exit(f"error: {exc}")
    except subprocess.CalledProcessError as exc:
        sys.exit(
            f"error: {' '.join(map(str, exc.cmd))[:200]} exited with {exc.returncode}: {exc.stderr}"
        )
