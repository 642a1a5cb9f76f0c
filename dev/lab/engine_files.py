"""The programs, configuration, bridge and runtime of a daemon of the lab."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from dev.lab import debian
from dev.lab.cache import CACHE, RUN, SYSTEM_PATH, once, report
from dev.lab.errors import LabError
from dev.lab.userdocker import Store

_HERE = Path(__file__).resolve().parent
_RUNTIME = _HERE / "without-sys-resource"
_FIREWALL = _HERE / "firewall" / "iptables"
_CAP_SYS_RESOURCE = 1 << 24
# Each daemon has its own address pool, so that two daemons never use the same addresses.
_POOLS: dict[Store, tuple[str, str, str]] = {
    "classic": ("lab-classic", "172.30.0.1/24", "172.29.0.0/16"),
    "containerd": ("lab-containerd", "172.31.0.1/24", "172.28.0.0/16"),
}
# Debian suites whose Docker supports the containerd store: 28.5, and 26.1 for days when sid cannot be installed.
_NEW_SUITES = ("sid", "trixie")
_NEW_PACKAGES = (
    "docker.io",
    "docker-cli",
    "docker-buildx",
    "docker-compose",
    "containerd",
    "runc",
    "iptables",
    "iproute2",
    "ca-certificates",
    "procps",
)
_CA_BUNDLE = "etc/ssl/certs/ca-certificates.crt"


@cache
def new_root() -> Path:
    """Return the file system with a new Docker, which needs a newer Debian than the machine's."""
    roots = [CACHE / "parts" / f"docker-{suite}" for suite in _NEW_SUITES]
    for root in roots:
        if root.is_dir():
            return root
    debian.need_bare_debian("Docker with the containerd store")
    *preferred, last = _NEW_SUITES
    for suite in preferred:
        try:
            return _make_root(suite)
        except LabError as error:
            report(f"Debian {suite} cannot be installed, trying the next suite: {error}")
    return _make_root(last)


def _make_root(suite: str) -> Path:
    def make(draft: Path) -> None:
        debian.tree(suite, draft, *_NEW_PACKAGES)

    return once("docker", suite, make, usually=50)


def command(store: Store) -> list[str | Path]:
    """Return the command that starts a daemon, in its own mount namespace."""
    run_dir = RUN / store
    data = CACHE / "data" / store
    namespace: list[str | Path] = ["unshare", "--mount", "--propagation", "slave"]
    data.mkdir(parents=True, exist_ok=True)
    daemon: list[str | Path] = ["dockerd", "--config-file", run_dir / "daemon.json"]
    if store == "classic":
        debian.install("docker.io", "iptables", "iproute2")
        _write_config(store, data, _RUNTIME)
        shared = 'mount --make-rshared / && exec "$@"'
        return [*namespace, "sh", "-c", shared, "sh", *daemon]
    root = new_root()
    for name in ("etc/resolv.conf", "etc/hosts", _CA_BUNDLE):
        shutil.copyfile(Path("/") / name, root / name, follow_symlinks=True)
    inside = Path("/usr/local/sbin")  # first on PATH, see `environment`
    copies = {_RUNTIME.name: _RUNTIME, "iptables": _FIREWALL, "ip6tables": _FIREWALL}
    for name, original in copies.items():
        shutil.copy(original, root / inside.relative_to("/") / name)
    _write_config(store, Path("/var/lib/docker"), inside / _RUNTIME.name)
    return [*namespace, _HERE / "enter-root", root, data, run_dir, *daemon]


def _write_config(store: Store, data: Path, runtime: Path) -> None:
    run_dir = RUN / store
    bridge, _, pool = _POOLS[store]
    config: dict[str, object] = {
        "hosts": [f"unix://{run_dir}/docker.sock"],
        "data-root": str(data),
        "exec-root": str(run_dir / "exec"),
        "pidfile": str(run_dir / "dockerd.pid"),
        "bridge": bridge,
        "default-address-pools": [{"base": pool, "size": 24}],
        "shutdown-timeout": 5,
        "cgroup-parent": f"/{cgroup(store)}",
    }
    if store == "containerd":
        config["features"] = {"containerd-snapshotter": True}
        # By default two days of builds are kept: thousands, which containerd scans at every removal.
        config["builder"] = {"history": {"maxAge": "1m", "maxEntries": 1}}
    if _lacks_sys_resource():
        config["runtimes"] = {"without-sys-resource": {"path": str(runtime)}}
        config["default-runtime"] = "without-sys-resource"
    (run_dir / "daemon.json").write_text(json.dumps(config, indent=2))


def cgroup(store: Store) -> str:
    """Return the control group of its containers' processes, which outlives their shims."""
    return f"autoregistry-lab-{store}"


def environment() -> dict[str, str]:
    """Return a daemon's environment, with only Debian's folders on PATH.

    dockerd uses the first containerd shim on PATH, of any version. The lab's iptables comes first: it waits
    while another daemon creates the chains again. GOGC trades memory for CPU, which is scarcer.
    """
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    names = [*proxies, *(name.lower() for name in proxies)]
    passed = {name: os.environ[name] for name in names if name in os.environ}
    return {"PATH": f"{_FIREWALL.parent}:{SYSTEM_PATH}", "HOME": "/root", "GOGC": "300", **passed}


def prepare_network(store: Store) -> None:
    """Create the daemon's bridge, and delete bridges in its pool that an earlier daemon left."""
    bridge, address, pool = _POOLS[store]
    addresses = json.loads(_ip("-json", "address", "show") or "[]")
    for link in addresses:
        name = str(link["ifname"])
        inside = any(
            ipaddress.ip_address(info["local"]) in ipaddress.ip_network(pool)
            for info in link["addr_info"]
            if info["family"] == "inet"
        )
        if name.startswith("br-") and inside:
            _ip("link", "delete", name)
    if bridge not in {link["ifname"] for link in addresses}:
        _ip("link", "add", bridge, "type", "bridge")
        _ip("address", "add", address, "dev", bridge)
    _ip("link", "set", bridge, "up")


def _ip(*arguments: str) -> str:
    argv = ["ip", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def _lacks_sys_resource() -> bool:
    status = Path("/proc/self/status").read_text()
    bounding = next(line for line in status.splitlines() if line.startswith("CapEff"))
    return not int(bounding.split()[1], 16) & _CAP_SYS_RESOURCE
