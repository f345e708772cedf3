"""What an image must be, and OpenCV's names for conversions to RGB, without OpenCV."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.transports.frames import OutputImageRawFrame

# cv2.COLOR_GRAY2RGB, COLOR_YUV2RGB_NV12, COLOR_YUV2RGB_I420: importing OpenCV for three numbers
# would cost every bot 0.2 s and 30 MB. A test compares them with OpenCV's.
FORMAT_CONVERSIONS = {"gray": 8, "nv12": 90, "yuv420p": 100, "yuvj420p": 100}
RGB_BYTES = 3


def check_image(frame: OutputImageRawFrame, size: tuple[int, int]) -> None:
    """Raise ValueError, saying what is wrong, unless it is an RGB image of `size` pixels."""
    if frame.format not in ("RGB", None):
        raise ValueError(f"an image is sent as RGB, not as {frame.format!r}: convert it first")
    if tuple(frame.size) != size:
        raise ValueError(
            f"the track sends {size[0]}x{size[1]} pixels, the image has "
            f"{frame.size[0]}x{frame.size[1]}"
        )
    wanted = size[0] * size[1] * RGB_BYTES
    if len(frame.image) != wanted:
        raise ValueError(f"an RGB image of this size has {wanted} bytes, not {len(frame.image)}")
