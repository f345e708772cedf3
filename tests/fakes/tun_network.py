"""Two network namespaces joined by a link with faults: the fake network for real processes.

A TUN device in each namespace, and a process between them that carries packets through two
`network.Network`s by the machine's clock. Needs root and iproute2. All of it belongs to that
process: a line of its standard input sets other faults, and when that ends, devices and
namespaces are gone.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import struct
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.fakes.network import NS_PER_S, Faults, Network  # noqa: E402

ADDRESSES = ("10.77.0.1", "10.77.0.2")
DEVICE = "imp0"
TUN = Path("/dev/net/tun")
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
MAX_PACKET_BYTES = 65_536
AT_ONCE = 64
END_S = 10


class NotPermitted(RuntimeError):
    """Namespaces or TUN devices cannot be made here; the text says why."""


class TunNetwork:
    """Namespace 0 has 10.77.0.1, namespace 1 has 10.77.0.2. Use as a context manager."""

    def __init__(self, there: Faults, back: Faults | None = None, *, seed: int = 1) -> None:
        """`there` is what happens from 0 to 1, `back` from 1 to 0 (the same by default)."""
        self._faults = (there, back or there)
        self._seed = seed
        self._process: subprocess.Popen[bytes] | None = None
        self.names = (f"bb{os.getpid()}a", f"bb{os.getpid()}b")
        # What happened to packets in each direction; known in the end.
        self.counts: list[dict[str, int]] = []

    def command(self, side: int) -> tuple[str, ...]:
        """What stands before a command that is to run in namespace 0 or 1."""
        return "ip", "netns", "exec", self.names[side]

    def impair(self, there: Faults, back: Faults | None = None) -> None:
        """Other faults from now on; what is on its way arrives as it would have."""
        assert self._process is not None
        assert self._process.stdin is not None
        faults = [asdict(there), asdict(back or there)]
        self._process.stdin.write(json.dumps(faults).encode() + b"\n")
        self._process.stdin.flush()

    def __enter__(self) -> Self:
        if why := obstacle():
            raise NotPermitted(why)
        settings = {"names": self.names, "seed": self._seed, "faults": [*map(asdict, self._faults)]}
        self._process = process = subprocess.Popen(
            [sys.executable, "-P", __file__, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None
        line = process.stdout.readline().decode().strip()
        if line != "ready":
            self.__exit__()
            raise NotPermitted(line or "the process between the namespaces has ended")
        return self

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            out, _err = process.communicate(timeout=END_S)
            self.counts = json.loads(out or b"[]")
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            for name in self.names:
                subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def obstacle() -> str:
    """Why there can be no such network here; empty when nothing speaks against it."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    if shutil.which("ip") is None:
        return "there is no iproute2 (`ip`)"
    if not TUN.exists():
        return f"there is no {TUN}"
    return ""


# -- the process between the namespaces ---------------------------------------------------------


def run(*command: str) -> None:
    """A command that must succeed; OSError with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


def open_tun(namespace: str, address: str) -> int:
    """A TUN device in a namespace, up, with that address; its descriptor."""
    name = f"{namespace}t"
    tun = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    run("ip", "link", "set", name, "netns", namespace, "name", DEVICE)
    inside = ("ip", "-n", namespace)
    run(*inside, "addr", "add", f"{address}/24", "dev", DEVICE)
    run(*inside, "link", "set", "lo", "up")
    run(*inside, "link", "set", DEVICE, "up")
    return tun


def carry(tuns: list[int], networks: list[Network]) -> None:
    """Until standard input ends: what comes out of one device goes into the other."""
    stdin = sys.stdin.fileno()
    told = b""
    while True:
        due = [network.next_ns for network in networks]
        soonest = min((ns for ns in due if ns is not None), default=None)
        wait_s = None if soonest is None else max(0, soonest - time.monotonic_ns()) / NS_PER_S
        ready, _, _ = select.select([*tuns, stdin], [], [], wait_s)
        if stdin in ready:
            piece = os.read(stdin, MAX_PACKET_BYTES)
            if not piece:
                return
            *lines, told = (told + piece).split(b"\n")
            for line in lines:
                for network, faults in zip(networks, json.loads(line), strict=True):
                    network.faults = Faults(**faults)
        for tun, network in zip(tuns, networks, strict=True):
            if tun in ready:
                take(tun, network)
        for tun, network in zip(reversed(tuns), networks, strict=True):
            for packet in network.due(time.monotonic_ns()):
                give(tun, packet)


def take(tun: int, network: Network) -> None:
    """What waits in a device enters the network."""
    for _ in range(AT_ONCE):
        try:
            packet = os.read(tun, MAX_PACKET_BYTES)
        except BlockingIOError:
            return
        network.send(packet, time.monotonic_ns())


def give(tun: int, packet: bytes) -> None:
    """A packet arrives; a device that takes none loses it."""
    try:
        os.write(tun, packet)
    except OSError:
        pass


def main(settings: dict[str, Any]) -> None:
    """Make everything, carry packets, take everything away again."""
    names, made = settings["names"], []
    networks = [
        Network(Faults(**faults), settings["seed"] + side)
        for side, faults in enumerate(settings["faults"])
    ]
    try:
        for name in names:
            run("ip", "netns", "add", name)
            made.append(name)
        tuns = [open_tun(*pair) for pair in zip(names, ADDRESSES, strict=True)]
        print("ready", flush=True)
        carry(tuns, networks)
        print(json.dumps([{**asdict(network.counts), "losses": []} for network in networks]))
    except OSError as error:
        print(error, flush=True)
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
