"""A viewer in Python of the Rust example `camera`: frames of 6 MB as numpy arrays, where the camera drew them.

    cargo build --release --example camera
    python crates/python/examples/camera_viewer.py

It keeps the last three frames in a window, computes over them in their slots, sets the exposure by what it sees, and saves a
plot of that to camera.png.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from pathlib import Path

import capnproto_shm_transport as cst
import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

# As examples/camera/frame.rs has them.
HEADER = np.dtype(
    [
        ("number", "u8"),
        ("dropped", "u8"),
        ("taken_at", "u8"),
        ("width", "u4"),
        ("height", "u4"),
        ("exposure_us", "u4"),
        ("gain", "f4"),
        ("reserved", "u8", 3),
    ],
    align=True,
)
CONTROL = np.dtype([("exposure_us", "u4"), ("gain", "f4"), ("stop", "u4")], align=True)
TAG = "camera/1"
FRAMES = 3
BRIGHTNESS = 100.0
NEAR = 3.0
PATIENCE = 10.0


class Seen:
    """The viewer's record of each frame."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.brightness: list[float] = []
        self.exposure: list[int] = []
        self.latency_us: list[float] = []
        self.addresses: set[int] = set()
        self.picture = np.zeros((1, 1), np.uint8)


def look(window: cst.Window, seen: Seen) -> np.void:
    """Look at the last three frames in their slots. No view of them outlives this call."""
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    headers, pictures = [], []
    for message in (window[at] for at in range(FRAMES)):
        header = np.frombuffer(memoryview(message), HEADER, count=1)[0]
        pixels = np.frombuffer(memoryview(message), np.uint8, offset=HEADER.itemsize)
        headers.append(header)
        pictures.append(pixels.reshape(header["height"], header["width"]))
        seen.addresses.add(message.address)
    # A thin grid of pixels is enough for the exposure, and what moves is not in a median.
    middle = np.median([picture[::16, ::16] for picture in pictures], axis=0)
    seen.brightness.append(float(middle.mean()))
    seen.exposure.append(int(headers[-1]["exposure_us"]))
    seen.latency_us.append((now - int(headers[-1]["taken_at"])) / 1000)
    seen.picture = pictures[-1][::8, ::8].copy()
    oldest: np.void = headers[0].copy()
    return oldest


def watch(channel: cst.Transport, seconds: float, fps: int) -> Seen:
    """Watch for so long, setting the exposure, and then stop the camera."""
    asked = np.zeros(1, CONTROL)
    asked["exposure_us"], asked["gain"] = 1000, 1.0
    seen = Seen()
    end = time.monotonic() + seconds
    with channel.window() as window:
        while not asked["stop"][0] or window.try_wait_for(FRAMES):
            window.wait_for(FRAMES, PATIENCE)
            oldest = look(window, seen)
            window.release()
            brightness = seen.brightness[-1]
            if not asked["stop"][0] and time.monotonic() >= end:
                asked["stop"] = 1
                channel.send(asked.tobytes(), PATIENCE)
            elif oldest["exposure_us"] == asked["exposure_us"][0] and abs(brightness - BRIGHTNESS) > NEAR:
                wanted = float(asked["exposure_us"][0]) * BRIGHTNESS / max(brightness, 1.0)
                asked["exposure_us"] = min(max(wanted, 1), 1_000_000 // fps)
                channel.send(asked.tobytes(), PATIENCE)
    return seen


def plot(seen: Seen, path: Path) -> None:
    """Save what was seen."""
    figure, (picture, curves, latency) = plt.subplots(1, 3, figsize=(12, 3.5), layout="constrained")
    picture.imshow(seen.picture, cmap="gray", vmin=0, vmax=255)
    picture.set_title("the last frame")
    curves.plot(seen.brightness, label="brightness")
    curves.axhline(BRIGHTNESS, color="gray", linewidth=0.5)
    curves.set(title="brightness, as the exposure is set", xlabel="frame")
    latency.hist(seen.latency_us, bins=40)
    latency.set(title="from the camera to numpy", xlabel="µs")
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    """Start the camera, watch it, and say what was seen."""
    root = Path(__file__).parents[3]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camera", type=Path, default=root / "target/release/examples/camera")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--fps", type=int, default=60)
    parser.add_argument("--width", type=int, default=3072)
    parser.add_argument("--height", type=int, default=2048)
    parser.add_argument("--plot", type=Path, default=Path("camera.png"))
    args = parser.parse_args()
    if not args.camera.exists():
        parser.error(
            f"{args.camera} is not there; build it (cargo build --release --example camera), or name it by --camera"
        )

    name = f"camera-viewer-{os.getpid()}"
    size = [f"--{what}={getattr(args, what)}" for what in ("fps", "width", "height")]
    with subprocess.Popen([args.camera, "--camera", "--name", name, *size]) as camera:
        try:
            with cst.Transport.open(name, PATIENCE, tag=TAG) as channel:
                seen = watch(channel, args.seconds, args.fps)
        except BaseException:
            camera.kill()
            raise
    plot(seen, args.plot)
    print(
        f"{len(seen.brightness)} looks at {FRAMES} frames each, in {len(seen.addresses)} slots, none copied; "
        f"brightness {seen.brightness[0]:.0f} to {seen.brightness[-1]:.0f}; "
        f"median latency {np.median(seen.latency_us):.0f} µs; plot in {args.plot}"
    )


if __name__ == "__main__":
    main()
