"""Caption networks; each scene decoder names the one that reads its pictures."""

from captioners.base import Captioner
from captioners.glyphs import GlyphCaptionNetwork
from captioners.grid import CaptionNetwork

CAPTIONERS: dict[str, type[Captioner]] = {"grid": CaptionNetwork, "glyphs": GlyphCaptionNetwork}
