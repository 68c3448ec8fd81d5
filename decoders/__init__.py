"""Scene decoders. To add one, write a subclass of `decoders.base.Decoder` and name it here (docs/add_a_decoder.md)."""

from decoders.base import Decoder
from decoders.conv import ConvSceneDecoder
from decoders.glyphs import GlyphSceneDecoder
from decoders.objects import ObjectsSceneDecoder

DECODERS: dict[str, type[Decoder]] = {
    "objects": ObjectsSceneDecoder,
    "glyphs": GlyphSceneDecoder,
    "conv": ConvSceneDecoder,
}
